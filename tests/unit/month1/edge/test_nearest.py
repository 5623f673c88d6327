"""Which edge is the near one: values in, decision out."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.edge import EdgePoint, Seen, nearest
from month1_caching_gateway.edge.nearest import DOWN_AFTER, GAIN, answered, failed
from scalelab.errors import InvalidInput, Unavailable

POINTS = [EdgePoint(name, f"http://{name}", name) for name in ("a", "b", "c")]
SEEN = st.builds(Seen, st.none() | st.floats(0.001, 2.0), st.integers(0, 4))
ALL_SEEN = st.fixed_dictionaries({point.name: SEEN for point in POINTS})
CURRENT = st.sampled_from([None, "a", "b", "c"])


@given(ALL_SEEN, CURRENT)
def test_an_edge_that_is_down_is_chosen_only_by_nobody(
    seen: dict[str, Seen], current: str | None
) -> None:
    """N1: with all down the client is told."""
    if all(one.is_down for one in seen.values()):
        with pytest.raises(Unavailable):
            nearest(POINTS, seen, current=current)
    else:
        assert not seen[nearest(POINTS, seen, current=current).name].is_down


@given(st.lists(st.floats(0.001, 2.0), min_size=3, max_size=3), CURRENT)
def test_the_chosen_edge_is_about_as_near_as_any(rtts: list[float], current: str | None) -> None:
    """N2: staying costs at most what a change would have to save."""
    seen = {point.name: Seen(rtt_s) for point, rtt_s in zip(POINTS, rtts, strict=True)}
    chosen = seen[nearest(POINTS, seen, current=current).name].rtt_s
    assert chosen is not None
    assert chosen * (1 - GAIN) <= min(rtts) + 1e-12


@given(st.lists(st.floats(0.09, 0.11), min_size=4, max_size=40))
def test_equally_near_edges_do_not_make_a_client_wander(rtts: list[float]) -> None:
    """N3: noise of ten percent around the same distance never moves it."""
    current: str | None = None
    seen = {point.name: Seen(0.1) for point in POINTS}
    choices: list[str] = []
    for number, rtt_s in enumerate(rtts):
        name = POINTS[number % 3].name
        seen[name] = answered(seen[name], rtt_s)
        current = nearest(POINTS, seen, current=current).name
        choices.append(current)
    assert all(one == other for one, other in pairwise(choices))


def test_before_any_measurement_the_table_of_regions_decides() -> None:
    """The client's own region first; an unknown region last."""
    assert nearest(POINTS, {}, regions=("c", "b")).name == "c"
    assert nearest(POINTS[:2], {}, regions=("c", "b")).name == "b"
    assert nearest(POINTS, {"a": Seen(5.0)}, regions=("c",)).name == "a"


def test_failures_in_a_row_take_an_edge_out_and_one_answer_brings_it_back() -> None:
    """With the new distance alone: the old one belongs to the time before."""
    seen = answered(Seen(), 0.1)
    for _ in range(DOWN_AFTER):
        assert not seen.is_down
        seen = failed(seen)
    assert seen.is_down
    seen = answered(seen, 0.5)
    assert seen == Seen(0.5, 0)
    assert answered(failed(seen), 0.5).failures == 0


def test_a_negative_round_trip_is_a_mistake() -> None:
    """A clock that stepped, not a fast edge."""
    with pytest.raises(InvalidInput):
        answered(Seen(), -0.1)
