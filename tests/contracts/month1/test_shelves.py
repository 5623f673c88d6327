"""What both ways of forgetting promise, Lru and Lfu, against a plain model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.caching import Lfu, Lru
from scalelab.errors import InvalidInput

Kept = Lru[int] | Lfu[int]
Make = Callable[[int, int | None], Kept]

steps = st.lists(
    st.tuples(
        st.sampled_from(["get", "put", "remove"]), st.sampled_from("abcdefg"), st.integers(0, 9)
    ),
    max_size=80,
)


def _lru(max_entries: int, max_bytes: int | None) -> Kept:
    return Lru(max_entries, max_bytes)


def _lfu(max_entries: int, max_bytes: int | None) -> Kept:
    return Lfu(max_entries, max_bytes, halve_every=7)


@pytest.mark.parametrize("make", [_lru, _lfu])
@given(steps=steps)
def test_never_more_entries_nor_bytes_than_allowed(
    make: Make, steps: list[tuple[str, str, int]]
) -> None:
    """I1 after every step, and what is found is what was put last."""
    kept = make(3, 12)
    model: dict[str, tuple[int, int]] = {}
    for number, (what, key, size) in enumerate(steps):
        if what == "get":
            found = kept.get(key)
            assert found is None or found == model[key][0]
        elif what == "put":
            model[key] = (number, size)
            assert kept.put(key, number, size)
            assert kept.peek(key) == number
        else:
            model.pop(key, None)
            kept.remove(key)
            assert kept.peek(key) is None
        there = [one for one in model if kept.peek(one) is not None]
        assert len(kept) == len(there) <= 3
        assert kept.size_bytes == sum(model[one][1] for one in there) <= 12


@pytest.mark.parametrize("make", [_lru, _lfu])
def test_what_is_larger_than_all_room_is_not_kept(make: Make) -> None:
    """And what stood under its key is gone: it was older."""
    kept = make(3, 12)
    assert kept.put("a", 1, 2)
    assert not kept.put("a", 2, 13)
    assert (len(kept), kept.size_bytes, kept.peek("a")) == (0, 0, None)


@pytest.mark.parametrize("make", [_lru, _lfu])
def test_cleared_is_empty(make: Make) -> None:
    """Nothing stands, and everything can be put again."""
    kept = make(2, None)
    for key in "abc":
        kept.put(key, 1, 1)
    kept.clear()
    assert (len(kept), kept.size_bytes, kept.get("c")) == (0, 0, None)
    assert kept.put("c", 1, 1)


def test_lru_forgets_the_least_recently_used() -> None:
    """I2: a look is a use, a peek is none."""
    kept: Lru[int] = Lru(2)
    kept.put("a", 1, 1)
    kept.put("b", 2, 1)
    kept.get("a")
    kept.peek("b")
    kept.put("c", 3, 1)
    assert [kept.peek(key) for key in "abc"] == [1, None, 3]


def test_lfu_forgets_the_least_frequently_used() -> None:
    """I2: among equals the one that came there first. I3: never the newcomer."""
    kept: Lfu[int] = Lfu(3)
    for key in "abc":
        kept.put(key, 1, 1)
    for key in "aab":
        kept.get(key)
    kept.put("d", 1, 1)
    assert [kept.peek(key) for key in "abcd"] == [1, 1, None, 1]
    kept.put("e", 1, 1)
    assert [kept.peek(key) for key in "abde"] == [1, 1, None, 1]


def test_a_scan_costs_lfu_less_than_lru() -> None:
    """Ten favourites and a walk over a thousand keys: LFU keeps them, LRU keeps none."""
    left: dict[str, int] = {}
    for name, kept in (("lru", Lru[int](20)), ("lfu", Lfu[int](20))):
        for number in range(10):
            kept.put(f"favourite-{number}", 1, 1)
            for _ in range(3):
                kept.get(f"favourite-{number}")
        for number in range(1000):
            kept.put(f"once-{number}", 1, 1)
        left[name] = sum(kept.peek(f"favourite-{number}") is not None for number in range(10))
    assert left == {"lru": 0, "lfu": 10}


def test_lfu_forgets_yesterdays_favourites() -> None:
    """Halving: what was asked a thousand times before gives way to what is asked now."""
    kept: Lfu[int] = Lfu(2, halve_every=100)
    kept.put("old", 1, 1)
    for _ in range(1000):
        kept.get("old")
    kept.put("now", 1, 1)
    for _ in range(700):
        kept.get("now")
    kept.put("third", 1, 1)
    assert (kept.peek("old"), kept.peek("now")) == (None, 1)


@pytest.mark.parametrize("make", [_lru, _lfu])
@pytest.mark.parametrize(("entries", "size"), [(0, None), (1, 0), (-1, 5)])
def test_no_room_at_all_is_a_mistake(make: Make, entries: int, size: int | None) -> None:
    """A cache that can hold nothing was not meant."""
    with pytest.raises(InvalidInput):
        make(entries, size)
