"""Pick by key: sticky, bounded, and blind to servers that are away."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from scalelab.balancing import Backend, ring_pick
from scalelab.hashing import Member, Ring

RING = Ring.of((Member(f"s{number}") for number in range(4)), virtual_nodes=32)


@given(st.text(max_size=6), st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=4))
def test_a_pick_is_available_and_under_its_bound(key: str, seen: list[tuple[int, bool]]) -> None:
    """With the new request it has at most 1.25 of the mean, rounded up; None if all are away."""
    backends = [Backend(f"s{n}", load, up) for n, (load, up) in enumerate(seen)]
    able = [backend for backend in backends if backend.available]
    picked = ring_pick(backends, RING, key)
    if not able:
        assert picked is None
        return
    assert picked is not None
    assert backends[picked].available
    total = sum(backend.in_flight for backend in able) + 1
    assert backends[picked].in_flight + 1 <= ceil(1.25 * total / len(able))


def test_a_key_stays_with_its_server_until_that_is_full() -> None:
    """Idle servers: the owner. The owner busy: the next in the key's walk. Away: the same."""
    backends = [Backend(f"s{number}") for number in range(4)]
    first, second = RING.owners("basket", 2)
    names = [backend.name for backend in backends]
    owner = names.index(first)
    assert ring_pick(backends, RING, "basket") == owner
    backends[owner] = replace(backends[owner], in_flight=9)
    assert ring_pick(backends, RING, "basket") == names.index(second)
    backends[owner] = Backend(first, available=False)
    assert ring_pick(backends, RING, "basket") == names.index(second)


def test_a_server_off_the_ring_is_not_picked() -> None:
    """It has no place there."""
    assert ring_pick([Backend("stranger")], RING, "a") is None
