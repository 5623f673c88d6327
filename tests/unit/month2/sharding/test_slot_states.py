"""Claims about a map whose slots are under way (pure)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.sharding import (
    SlotMove,
    SlotState,
    StoredMap,
    even,
    from_document,
    read_slots,
    show_slots,
    to_document,
)
from scalelab.errors import Conflict, InvalidInput

START = StoredMap(even(["a", "b"]))


def test_a_move_changes_the_owner_in_its_last_step_only() -> None:
    """I1, I3: four versions, and the owner changes with the fourth."""
    steps = [START, START.moving([3, 4], "b")]
    steps.append(steps[-1].fenced([3, 4]))
    steps.append(steps[-1].switched([3, 4]))
    assert [step.version for step in steps] == [1, 2, 3, 4]
    assert [step.shard_map.shard_of(3) for step in steps] == ["a", "a", "a", "b"]
    assert [step.state_of(3) for step in steps] == [
        SlotState.OWNED,
        SlotState.MOVING,
        SlotState.FENCED,
        SlotState.OWNED,
    ]
    untouched = [slot for slot in range(256) if slot not in (3, 4)]
    assert all(steps[-1].shard_map.shard_of(s) == START.shard_map.shard_of(s) for s in untouched)


def test_a_move_can_be_taken_back_until_it_is_switched() -> None:
    """kept gives the owners of the beginning, as a later version."""
    for step in (START.moving([3], "b"), START.moving([3], "b").fenced([3])):
        back = step.kept([3])
        assert (back.shard_map.owners, back.moves) == (START.shard_map.owners, ())
        assert back.version == step.version + 1


def test_a_slot_that_still_takes_writes_is_not_switched() -> None:
    """I3."""
    with pytest.raises(Conflict) as caught:
        START.moving([3], "b").switched([3])
    assert caught.value.stable_code == "slot_not_fenced"


def test_two_moves_of_one_slot_are_refused() -> None:
    """Whoever comes second is told."""
    with pytest.raises(Conflict) as caught:
        START.moving([3], "b").moving([3], "c")
    assert caught.value.stable_code == "slot_in_move"


def test_a_slot_moves_neither_to_its_owner_nor_from_nowhere() -> None:
    """I2."""
    for slot in (3, 256, -1):
        with pytest.raises(InvalidInput):
            START.moving([slot], "a")
    with pytest.raises(Conflict):
        START.fenced([3])


@given(slots=st.sets(st.integers(0, 255)))
def test_slots_read_back_as_they_were_shown(slots: set[int]) -> None:
    """For any set, the empty one too."""
    assert read_slots(show_slots(slots)) == tuple(sorted(slots))


@given(slots=st.sets(st.integers(0, 127), min_size=1), fenced=st.booleans())
def test_a_map_reads_back_from_its_document(slots: set[int], fenced: bool) -> None:
    """Owners, moves and states."""
    stored = START.moving(sorted(slots), "c")
    stored = stored.fenced(slots) if fenced else stored
    assert from_document(stored.version, to_document(stored)) == stored


@pytest.mark.parametrize(
    ("owners", "code"),
    [
        ({"a": "0-99", "b": "101-255"}, "slot_without_owner"),
        ({"a": "0-100", "b": "100-255"}, "slot_owned_twice"),
        ({"a": "0-255,7"}, "slot_owned_twice"),
        ({}, "slot_without_owner"),
        ({"a": "0-256"}, "invalid_input"),
        ({"a": "9-3"}, "invalid_input"),
        ({"a": 7}, "invalid_input"),
        ({"A!": "0-255"}, "invalid_input"),
        (None, "invalid_input"),
    ],
)
def test_owners_that_make_no_map_are_refused_by_name(owners: object, code: str) -> None:
    """A gap, a double claim, and forms that are none."""
    with pytest.raises(InvalidInput) as caught:
        from_document(1, {"owners": owners, "moves": []})
    assert caught.value.stable_code == code


@pytest.mark.parametrize(
    "moves",
    [
        "none",
        [7],
        [{"slot": 3, "to": "b"}],
        [{"slot": 3, "to": "b", "state": "owned"}],
        [{"slot": 3, "to": "a", "state": "moving"}],
        [{"slot": 3, "to": "b", "state": "moving"}] * 2,
    ],
)
def test_moves_that_go_nowhere_are_refused(moves: object) -> None:
    """Wrong forms, a move to the owner, one slot twice."""
    with pytest.raises(InvalidInput):
        from_document(1, {"owners": {"a": "0-127", "b": "128-255"}, "moves": moves})


def test_the_message_names_the_slot_that_nobody_owns() -> None:
    """What a person needs to correct the row."""
    with pytest.raises(InvalidInput, match="nobody claims slot 3"):
        from_document(1, {"owners": {"a": "0-2,6-8,10-255"}})


def test_a_move_names_its_state() -> None:
    """As the table shows it."""
    assert to_document(START.moving([3], "b"))["moves"] == [
        {"slot": 3, "to": "b", "state": "moving"}
    ]
    assert START.moving([3], "b").move_of(3) == SlotMove(3, "b")
