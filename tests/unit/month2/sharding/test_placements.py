"""Placements: every key has one shard, and a change moves only what it must."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.sharding import (
    Directory,
    HashPlacement,
    Placement,
    RangePlacement,
    RingPlacement,
    even,
    map_of_claims,
)
from scalelab.errors import Conflict, InvalidInput, NotFound
from scalelab.ids import SLOT_COUNT

KEYS = [f"user-{n}" for n in range(2000)]
SHARDS = ("a", "b", "c", "d")
PLACEMENTS: dict[str, Placement] = {
    "hash": HashPlacement(even(SHARDS)),
    "range": RangePlacement(str, ("user-3", "user-5", "user-7"), SHARDS),
    "ring": RingPlacement.of(SHARDS),
    "directory": Directory(HashPlacement(even(SHARDS))).pin("user-1", "d"),
}


def moved(before: Placement, after: Placement) -> dict[str, tuple[str, str]]:
    pairs = {key: (before.shard_of(key), after.shard_of(key)) for key in KEYS}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


@pytest.mark.parametrize("name", PLACEMENTS)
@given(key=st.text())
def test_every_text_has_one_known_shard(name: str, key: str) -> None:
    """The same one each time it is asked."""
    placement = PLACEMENTS[name]
    assert placement.shard_of(key) in placement.shards
    assert placement.shard_of(key) == placement.shard_of(key)


@pytest.mark.parametrize("name", PLACEMENTS)
@pytest.mark.parametrize(
    ("key", "code"),
    [
        (None, "shard_key_null"),
        (7, "shard_key_type"),
        (b"user-1", "shard_key_type"),
        (Decimal(1), "shard_key_type"),
        (UUID(int=1), "shard_key_type"),
        (["user-1"], "shard_key_type"),
    ],
)
def test_what_is_no_text_key_is_refused(name: str, key: object, code: str) -> None:
    """NULL apart from a wrong type, by every placement alike."""
    with pytest.raises(InvalidInput) as refusal:
        PLACEMENTS[name].shard_of(key)
    assert (refusal.value.stable_code, refusal.value.field) == (code, "key")


@pytest.mark.parametrize("key", ["7", True, 7.0, None])
def test_whole_number_ranges_take_whole_numbers_only(key: object) -> None:
    """True is no number here, and text is not turned into one."""
    with pytest.raises(InvalidInput):
        RangePlacement(int, (10,), ("a", "b")).shard_of(key)


@given(st.sets(st.integers(-50, 50), max_size=8), st.integers(-60, 60))
def test_a_range_holds_its_lower_point_and_not_its_upper(points: set[int], key: int) -> None:
    """I1, against counting points."""
    cut = tuple(sorted(points))
    owners = tuple(f"s{n}" for n in range(len(cut) + 1))
    expected = f"s{sum(point <= key for point in cut)}"
    assert RangePlacement(int, cut, owners).shard_of(key) == expected


@given(st.sets(st.integers(-50, 50), max_size=6), st.integers(-60, 60))
def test_a_split_moves_one_stretch_and_a_merge_gives_it_back(points: set[int], at: int) -> None:
    """I2 and I3 for every key around."""
    cut = tuple(sorted(points - {at}))
    before = RangePlacement(int, cut, tuple(f"s{n}" for n in range(len(cut) + 1)))
    after = before.split(at, "new")
    end = next((point for point in cut if point > at), 61)
    for key in range(-61, 61):
        assert after.shard_of(key) == ("new" if at <= key < end else before.shard_of(key))
    back = after.merge(at)
    assert (back.points, back.owners, back.version) == (cut, before.owners, 3)


def test_a_range_of_keys_asks_only_the_shards_that_have_it() -> None:
    """Half open, in the order of the keys."""
    placement = RangePlacement(int, (10, 20, 30), ("a", "b", "c", "d"))
    assert placement.shards_between(12, 20) == ("b",)
    assert placement.shards_between(12, 21) == ("b", "c")
    assert placement.shards_between(-5, 99) == ("a", "b", "c", "d")


def test_a_split_where_a_range_begins_and_a_merge_where_none_does_are_refused() -> None:
    """With a code, and the placement is as it was."""
    placement = RangePlacement(int, (10,), ("a", "b"))
    with pytest.raises(Conflict) as taken:
        placement.split(10, "c")
    assert taken.value.stable_code == "split_point_taken"
    with pytest.raises(NotFound):
        placement.merge(11)


@pytest.mark.parametrize(
    ("points", "owners"), [((1, 1), ("a", "b", "c")), ((2, 1), ("a", "b", "c")), ((1,), ("a",))]
)
def test_ranges_that_overlap_or_lack_an_owner_are_refused(
    points: tuple[int, ...], owners: tuple[str, ...]
) -> None:
    """I1 at construction."""
    with pytest.raises(InvalidInput):
        RangePlacement(int, points, owners)


def test_a_new_ring_member_takes_keys_and_nobody_else_does() -> None:
    """About its share; and its going gives them all back."""
    before = RingPlacement.of(SHARDS)
    after = before.with_shard("e")
    gone = moved(before, after)
    assert {to for _, to in gone.values()} == {"e"}
    assert len(KEYS) / 10 < len(gone) < len(KEYS) / 3
    assert moved(before, after.without_shard("e")) == {}
    assert after.version == 2


def test_a_ring_keeps_its_last_shard() -> None:
    """A placement without shards has no answer."""
    with pytest.raises(InvalidInput):
        RingPlacement.of([])
    with pytest.raises(InvalidInput):
        RingPlacement.of(["a"]).without_shard("a")


def test_the_directory_moves_one_key_and_no_other() -> None:
    """Pinned, then unpinned; each is a version of its own."""
    default = HashPlacement(even(SHARDS))
    pinned = Directory(default).pin("user-7", "own")
    assert moved(default, pinned) == {"user-7": (default.shard_of("user-7"), "own")}
    assert "own" in pinned.shards
    back = pinned.unpin("user-7")
    assert moved(default, back) == {}
    assert [default.version, pinned.version, back.version] == [1, 2, 3]
    with pytest.raises(NotFound):
        back.unpin("user-7")


def test_claims_that_cover_every_slot_once_are_a_map() -> None:
    """Whatever order they come in."""
    made = map_of_claims(4, {"b": range(100, SLOT_COUNT), "a": range(100)})
    assert (made.version, made.shards, made.shard_of(99), made.shard_of(100)) == (
        4,
        ("a", "b"),
        "a",
        "b",
    )


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"a": range(255)}, "slot_without_owner"),
        ({"a": range(256), "b": [17]}, "slot_owned_twice"),
        ({"a": range(257)}, "slot_unknown"),
        ({"a": range(-1, 256)}, "slot_unknown"),
        ({}, "slot_without_owner"),
    ],
)
def test_claims_that_leave_a_doubt_are_refused(claims: dict[str, range], code: str) -> None:
    """A slot nobody has, one that two have, one that is not there."""
    with pytest.raises(InvalidInput) as refusal:
        map_of_claims(1, claims)
    assert refusal.value.stable_code == code
