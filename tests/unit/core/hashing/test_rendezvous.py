"""Rendezvous hashing: exact shares, and the least possible disruption."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.errors import Conflict, NotFound, Unavailable
from scalelab.hashing import Member, Rendezvous

KEYS = [f"key-{number}" for number in range(20_000)]
MEMBERS = st.lists(
    st.builds(Member, st.text("abc0", min_size=1, max_size=4), st.floats(0.1, 10.0)),
    min_size=1,
    max_size=6,
    unique_by=lambda member: member.name,
)
SOME_KEYS = st.lists(st.text(max_size=6), max_size=30)


def test_known_keys_stay_where_they_are() -> None:
    """I1, across processes and versions: these answers may never change."""
    five = Rendezvous.of(Member(f"n{number}") for number in range(5))
    assert [five.owner(key) for key in "abcdef"] == ["n1", "n0", "n2", "n2", "n0", "n0"]


@given(MEMBERS, SOME_KEYS)
def test_the_order_of_members_does_not_matter(members: list[Member], keys: list[str]) -> None:
    """I1."""
    forth, back = Rendezvous.of(members), Rendezvous.of(reversed(members))
    for key in keys:
        assert forth.owners(key, 3) == back.owners(key, 3)


@given(MEMBERS, SOME_KEYS, st.floats(0.1, 10.0))
def test_a_new_member_moves_keys_to_itself_only(
    members: list[Member], keys: list[str], weight: float
) -> None:
    """I2: the ranking of the others is what it was."""
    before = Rendezvous.of(members)
    after = before.add(Member("new", weight))
    for key in keys:
        ranking = after.owners(key, 9)
        assert [name for name in ranking if name != "new"] == before.owners(key, 9)


@given(MEMBERS, SOME_KEYS)
def test_keys_of_a_removed_member_go_to_the_next_of_their_ranking(
    members: list[Member], keys: list[str]
) -> None:
    """I2: nobody else's key moves."""
    before = Rendezvous.of([*members, Member("gone")])
    after = before.remove("gone")
    for key in keys:
        ranking = [name for name in before.owners(key, 9) if name != "gone"]
        assert after.owners(key, 9) == ranking


@given(MEMBERS, SOME_KEYS)
def test_more_weight_only_attracts(members: list[Member], keys: list[str]) -> None:
    """I2: raising one weight takes no key from it and moves none between others."""
    first, *others = members
    before = Rendezvous.of(members)
    after = Rendezvous.of([Member(first.name, first.weight * 2), *others])
    for key in keys:
        assert after.owner(key) in {before.owner(key), first.name}


def test_shares_follow_weights() -> None:
    """1 : 2 : 5, each within 6 % of its due (over three standard deviations)."""
    three = Rendezvous.of([Member("a", 1.0), Member("b", 2.0), Member("c", 5.0)])
    found = Counter(map(three.owner, KEYS))
    for name, due in (("a", 1 / 8), ("b", 2 / 8), ("c", 5 / 8)):
        assert found[name] / len(KEYS) == pytest.approx(due, rel=0.06)


@pytest.mark.parametrize("count", [4, 9])
def test_one_more_member_moves_its_share_of_the_keys(count: int) -> None:
    """1/(n+1) within 8 %, much nearer than a ring comes."""
    before = Rendezvous.of(Member(f"n{number}") for number in range(count))
    after = before.add(Member("new"))
    moved = sum(before.owner(key) != after.owner(key) for key in KEYS) / len(KEYS)
    assert moved == pytest.approx(1 / (count + 1), rel=0.08)


def test_what_cannot_be_is_refused() -> None:
    """Each with its own error."""
    with pytest.raises(Unavailable):
        Rendezvous.of([]).owner("a")
    with pytest.raises(Conflict):
        Rendezvous.of([Member("a")]).add(Member("a"))
    with pytest.raises(NotFound):
        Rendezvous.of([Member("a")]).remove("b")
