"""The shard map, and shards from settings."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.sharding import ServerSettings, ShardMap, ShardSettings, even, parse_shards
from scalelab.errors import InvalidInput
from scalelab.ids import SLOT_COUNT

NAMES = st.lists(
    st.from_regex(r"[a-z0-9-]{1,12}", fullmatch=True), min_size=1, max_size=40, unique=True
)


@given(NAMES)
def test_an_even_map_gives_neighbouring_slots_in_order(names: list[str]) -> None:
    """I1 and I2 for any number of shards."""
    made = even(names)
    assert made.shards == tuple(names)
    sizes = [len(made.slots_of(name)) for name in names]
    assert sum(sizes) == SLOT_COUNT
    assert set(sizes) <= {SLOT_COUNT // len(names), SLOT_COUNT // len(names) + 1}
    assert [made.shard_of(slot) for slot in range(SLOT_COUNT)] == list(made.owners)


def test_two_shards_meet_in_the_middle() -> None:
    """Slots 0..127 and 128..255."""
    made = even(["shard-0", "shard-1"])
    assert made.slots_of("shard-0") == tuple(range(128))
    assert (made.shard_of(127), made.shard_of(128)) == ("shard-0", "shard-1")


@given(st.integers(0, SLOT_COUNT - 1))
def test_a_move_changes_one_slot_and_the_version(slot: int) -> None:
    """I3: every other slot stays where it is."""
    before = even(["a", "b"])
    after = before.moved(slot, "c")
    changed = [n for n in range(SLOT_COUNT) if before.shard_of(n) != after.shard_of(n)]
    assert (changed, after.shard_of(slot), after.version) == ([slot], "c", 2)


@pytest.mark.parametrize("names", [[], ["a", "a"], [f"s{n}" for n in range(257)], ["UPPER"]])
def test_senseless_shards_are_refused(names: list[str]) -> None:
    """None, twice, too many, or unnameable."""
    with pytest.raises(InvalidInput):
        even(names)


@pytest.mark.parametrize(("version", "owners"), [(0, ("a",) * 256), (1, ("a",) * 255)])
def test_a_map_with_a_gap_is_refused(version: int, owners: tuple[str, ...]) -> None:
    """I1 at construction."""
    with pytest.raises(InvalidInput):
        ShardMap(version, owners)


def test_a_move_of_a_slot_that_is_not_there_is_refused() -> None:
    """Negative numbers are not places from the end."""
    with pytest.raises(InvalidInput):
        even(["a"]).moved(-1, "b")


def test_shards_come_from_their_json_setting() -> None:
    """In order, with replicas or without."""
    text = json.dumps(
        [
            {"name": "shard-0", "primary": "dsn0", "replicas": [{"name": "r0", "dsn": "dsn1"}]},
            {"name": "shard-1", "primary": "dsn2"},
        ]
    )
    assert parse_shards(text) == (
        ShardSettings("shard-0", "dsn0", (ServerSettings("r0", "dsn1"),)),
        ShardSettings("shard-1", "dsn2"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "[1]",
        '[{"name":"a"}]',
        '[{"name":"a","primary":""}]',
        '[{"name":"a.b","primary":"postgresql://u:secret@h/d"}]',
        '[{"name":"a","primary":"postgresql://u:secret@h/d","replicas":{}}]',
        '[{"name":"a","primary":"postgresql://u:secret@h/d","replicas":[{"name":"a","dsn":"d"}]}]',
        '[{"name":"a","primary":"postgresql://u:secret@h/d","replicas":[{"dsn":"d"}]}]',
    ],
)
def test_a_broken_setting_is_refused_without_its_secrets(text: str) -> None:
    """The message says where, and never quotes a DSN."""
    with pytest.raises(InvalidInput) as refusal:
        parse_shards(text)
    assert "secret" not in str(refusal.value)
