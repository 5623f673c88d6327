"""The ring: how few keys move, how even shares are, and the bound on loads."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.errors import Conflict, InvalidInput, NotFound, Unavailable
from scalelab.hashing import Member, Ring

KEYS = [f"key-{number}" for number in range(20_000)]
NAMES = st.lists(st.text("abc0", min_size=1, max_size=4), min_size=1, max_size=8, unique=True)


def ring_of(count: int, *, virtual_nodes: int = 128) -> Ring:
    """Members n0, n1, … of weight 1."""
    return Ring.of((Member(f"n{number}") for number in range(count)), virtual_nodes=virtual_nodes)


def test_known_keys_stay_where_they_are() -> None:
    """I1, across processes and versions: these answers may never change."""
    ring = ring_of(5)
    assert [ring.owner(key) for key in "abcdef"] == ["n2", "n3", "n1", "n1", "n0", "n4"]


@given(NAMES)
def test_the_order_of_joining_does_not_matter(names: list[str]) -> None:
    """I1: built at once, or one by one from the end, with a member that came and went."""
    ring = Ring.of([], virtual_nodes=8)
    for name in [*reversed(names), "passer-by"]:
        ring = ring.add(Member(name))
    ring = ring.remove("passer-by")
    assert ring == Ring.of((Member(name) for name in names), virtual_nodes=8)


@given(NAMES, st.lists(st.text(max_size=6), max_size=40))
def test_a_new_member_takes_and_gives_nothing_else(names: list[str], keys: list[str]) -> None:
    """I2 in both directions."""
    before = Ring.of((Member(name) for name in names), virtual_nodes=8)
    after = before.add(Member("new"))
    for key in keys:
        assert after.owner(key) in {before.owner(key), "new"}


@pytest.mark.parametrize("count", [4, 9, 19])
def test_one_more_member_moves_its_share_of_the_keys(count: int) -> None:
    """Of n + 1 members the new one gets 1/(n+1), give or take 30 % at 128 points."""
    before = ring_of(count)
    after = before.add(Member("new"))
    moved = sum(before.owner(key) != after.owner(key) for key in KEYS) / len(KEYS)
    assert moved == pytest.approx(1 / (count + 1), rel=0.3)


def test_points_make_shares_even() -> None:
    """The fullest of ten is at most 25 % above the mean; with one point each it is far above."""
    many = Counter(map(ring_of(10, virtual_nodes=256).owner, KEYS))
    one = Counter(map(ring_of(10, virtual_nodes=1).owner, KEYS))
    mean = len(KEYS) / 10
    assert len(many) == 10
    assert max(many.values()) / mean < 1.25 < max(one.values()) / mean


def test_shares_follow_weights() -> None:
    """A member of weight 3 among three of weight 1 gets half."""
    ring = Ring.of([Member("big", 3.0), *(Member(f"s{n}") for n in range(3))], virtual_nodes=256)
    share = Counter(map(ring.owner, KEYS))["big"] / len(KEYS)
    assert share == pytest.approx(0.5, rel=0.12)


def test_owners_are_different_and_begin_with_the_owner() -> None:
    """What a replicated store asks for; never more than there are."""
    ring = ring_of(4)
    for key in KEYS[:50]:
        owners = ring.owners(key, 3)
        assert owners[0] == ring.owner(key)
        assert len(set(owners)) == 3
    assert sorted(ring.owners("a", 9)) == ["n0", "n1", "n2", "n3"]
    assert ring.owners("a", 0) == []


def test_a_key_of_a_removed_member_falls_to_the_next_in_its_walk() -> None:
    """Replicas by `owners` are where the keys go when a member leaves."""
    ring = ring_of(5)
    for key in KEYS[:200]:
        first, second = ring.owners(key, 2)
        assert ring.remove(first).owner(key) == second


WEIGHTS = st.lists(st.floats(0.2, 5.0), min_size=1, max_size=6)


@given(WEIGHTS, st.floats(1.0, 2.0), st.lists(st.sampled_from(KEYS[:5]), max_size=60))
def test_bounded_load_is_never_exceeded(
    weights: list[float], balance: float, keys: list[str]
) -> None:
    """I3 for few hot keys, any weights, and a balance down to 1; every key finds a place."""
    members = [Member(f"n{number}", weight) for number, weight in enumerate(weights)]
    ring = Ring.of(members, virtual_nodes=8)
    loads = dict.fromkeys((member.name for member in members), 0)
    for key in keys:
        limits = ring.capacities(loads, balance=balance)
        picked = ring.bounded_owner(key, loads, balance=balance)
        loads[picked] += 1
        assert loads[picked] <= limits[picked]
    assert sum(loads.values()) == len(keys)


def test_one_hot_key_is_spread_by_the_bound() -> None:
    """All requests for one key: no member holds more than 1.25 of the mean, rounded up."""
    ring = ring_of(4)
    loads = {member.name: 0 for member in ring.members}
    for _ in range(400):
        loads[ring.bounded_owner("hot", loads)] += 1
    assert max(loads.values()) == 125


def test_without_pressure_the_bound_changes_nothing() -> None:
    """I4: plenty of room everywhere."""
    ring = ring_of(4)
    loads = {member.name: 100 for member in ring.members}
    assert [ring.bounded_owner(key, loads) for key in KEYS[:100]] == [
        ring.owner(key) for key in KEYS[:100]
    ]


def test_members_left_out_of_the_loads_are_passed_over() -> None:
    """A server that is down gets nothing; a name that is no member counts for nothing."""
    ring = ring_of(3)
    loads = {"n1": 0, "stranger": 99}
    assert {ring.bounded_owner(key, loads) for key in KEYS[:50]} == {"n1"}


def test_what_cannot_be_is_refused() -> None:
    """Each with its own error."""
    ring = ring_of(2)
    with pytest.raises(Conflict):
        ring.add(Member("n1", 2.0))
    with pytest.raises(NotFound):
        ring.remove("n9")
    with pytest.raises(Unavailable):
        Ring.of([]).owner("a")
    with pytest.raises(Unavailable):
        ring.bounded_owner("a", {})
    with pytest.raises(InvalidInput):
        ring.bounded_owner("a", {"n0": 0}, balance=0.9)
    with pytest.raises(InvalidInput):
        Ring.of([], virtual_nodes=0)
    for weight in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InvalidInput):
            Member("a", weight)
