"""Smooth weighted round robin: exact shares, without bursts."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.balancing import Backend, weighted_round_robin
from scalelab.errors import InvalidInput


def picks(backends: list[Backend], weights: dict[str, int], count: int) -> list[str]:
    """Names of the next `count` servers; credits add up to 0 all the way (I2)."""
    credits: dict[str, int] = {}
    found: list[str] = []
    for _ in range(count):
        index, credits = weighted_round_robin(backends, weights, credits)
        assert index is not None
        assert sum(credits.values()) == 0
        found.append(backends[index].name)
    return found


def test_the_heavy_one_is_not_hit_in_a_row() -> None:
    """The published example."""
    backends = [Backend("a"), Backend("b"), Backend("c")]
    assert "".join(picks(backends, {"a": 5}, 7)) == "aabacaa"


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 60))
def test_any_window_has_each_server_as_often_as_its_weight(weights: list[int], skip: int) -> None:
    """I1 and I2."""
    by_name = {f"s{number}": weight for number, weight in enumerate(weights)}
    total = sum(weights)
    found = picks([Backend(name) for name in by_name], by_name, skip + total)
    assert Counter(found[skip:]) == by_name


def test_a_server_that_returns_has_nothing_to_catch_up_on() -> None:
    """I3: after a long absence it gets its turns, not all of them."""
    up, down = [Backend("a"), Backend("b")], [Backend("a"), Backend("b", available=False)]
    credits: dict[str, int] = {}
    for _ in range(50):
        index, credits = weighted_round_robin(down, {}, credits)
        assert index == 0
    back: list[int | None] = []
    for _ in range(10):
        index, credits = weighted_round_robin(up, {}, credits)
        back.append(index)
    assert Counter(back) == {0: 5, 1: 5}


def test_nobody_available_is_nobody_picked() -> None:
    """And no credit is kept."""
    down = [Backend("a", available=False)]
    assert weighted_round_robin(down, {}, {"a": 3}) == (None, {})
    assert weighted_round_robin([], {}, {}) == (None, {})


def test_a_weight_below_one_is_refused() -> None:
    """It would never get a turn."""
    with pytest.raises(InvalidInput):
        weighted_round_robin([Backend("a")], {"a": 0}, {})
