"""Claims about the scaling laws and their fits (pure)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.experiments.scaling_laws import Law, fit_amdahl, fit_usl
from scalelab.errors import InvalidInput

serials = st.floats(0.0, 1.0)
crosstalks = st.floats(0.0, 0.5)


@given(serial=serials, crosstalk=crosstalks, workers=st.integers(1, 256))
def test_a_law_never_promises_more_than_its_workers(
    serial: float, crosstalk: float, workers: int
) -> None:
    """L1."""
    law = Law(serial, crosstalk)
    assert law.speedup(1) == 1.0
    assert 0 < law.speedup(workers) <= workers * (1 + 1e-12)


@given(serial=serials)
def test_the_fit_of_amdahl_finds_its_serial_share(serial: float) -> None:
    """L2."""
    law = Law(serial)
    found = fit_amdahl([(n, law.speedup(n)) for n in (1, 2, 4, 8)])
    assert found.serial == pytest.approx(serial, abs=1e-9)


@given(serial=serials, crosstalk=crosstalks)
def test_the_fit_of_the_usl_finds_both_parameters(serial: float, crosstalk: float) -> None:
    """L2."""
    law = Law(serial, crosstalk)
    found = fit_usl([(n, law.speedup(n)) for n in (1, 2, 3, 4, 8)])
    assert found.serial == pytest.approx(serial, abs=1e-6)
    assert found.crosstalk == pytest.approx(crosstalk, abs=1e-6)


def test_with_crosstalk_there_is_a_best_number() -> None:
    """Beyond it more workers do less; without crosstalk there is none."""
    law = Law(0.05, 0.01)
    best = round(law.best_workers)
    assert best == 10
    assert law.speedup(best) > law.speedup(best * 2)
    assert Law(0.5).best_workers == float("inf")


def test_better_than_linear_counts_as_linear() -> None:
    """A negative serial share has no meaning: noise, or a cache that suddenly fits."""
    assert fit_amdahl([(1, 1.0), (2, 2.2)]) == Law(0.0)
    assert fit_usl([(1, 1.0), (2, 2.2), (4, 4.4)]) == Law(0.0)


def test_what_helps_more_the_more_there_are_has_no_crosstalk() -> None:
    """A negative cost of agreeing has no meaning either: the fit falls back to Amdahl's."""
    points = [(1, 1.0), (2, 1.2), (4, 3.0)]
    assert fit_usl(points) == fit_amdahl(points)


@pytest.mark.parametrize("points", [[], [(1, 1.0)], [(1, 1.0), (2, 0.0)], [(0, 1.0), (2, 1.0)]])
def test_a_fit_of_nothing_is_refused(points: list[tuple[float, float]]) -> None:
    """One worker says nothing about two."""
    with pytest.raises(InvalidInput):
        fit_amdahl(points)


def test_two_unknowns_need_two_measurements() -> None:
    """On a machine with two cores the second law has nothing to stand on."""
    with pytest.raises(InvalidInput):
        fit_usl([(1, 1.0), (2, 1.9)])
