"""Percentiles and counters of a run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from month6_capstone.load import Measurements, percentile


def test_percentiles_of_one_to_hundred_are_their_ranks() -> None:
    """Nearest rank: p50 of 1..100 is 50, p99 is 99."""
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_is_a_value_that_was_seen(values: list[float], share: float) -> None:
    """No interpolation: the answer is one of the inputs, with enough of them at or below it."""
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert found in ordered
    assert sum(value <= found for value in ordered) >= share * len(ordered) - 1e-9


def test_nothing_measured_is_zero() -> None:
    """A kind without a single value reports zeros instead of failing the report."""
    assert Measurements().summary_ms("checkout") == {"p50": 0.0, "p95": 0.0, "p99": 0.0}


def test_counters_are_grouped_by_prefix() -> None:
    """`matching` returns what begins with the prefix, without the prefix."""
    measured = Measurements()
    for name in ("reads.shard-0.replica", "reads.shard-0.replica", "cache.hit"):
        measured.count(name)
    assert measured.matching("reads.") == {"shard-0.replica": 2}
