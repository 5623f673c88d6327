"""When a generation may take over, and which records it still has to fold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month3_messaging.readmodel.generation import Generation, Place, State, may_go_live, unseen
from scalelab.clients.kafka_records import Record
from scalelab.errors import CorruptData

offsets = st.dictionaries(st.integers(0, 2), st.integers(0, 3), min_size=1)


def generation(state: State, at: dict[int, int], target: int = 0) -> Generation:
    return Generation(1, state, {p: Place(offset, target) for p, offset in at.items()})


def record(offset: int) -> Record:
    return Record("orders.order", 0, offset, None, None, {}, 0)


@given(offsets, offsets)
def test_a_swap_never_takes_a_record_from_readers(new: dict[int, int], old: dict[int, int]) -> None:
    """G1: a model counts, for each partition, the records that the old one shows."""
    shown = {(p, n) for p, end in old.items() for n in range(end)}
    has = {(p, n) for p, end in new.items() for n in range(end)}
    allowed = may_go_live(generation(State.BUILDING, new), generation(State.LIVE, old))
    assert allowed == (shown <= has and old.keys() <= new.keys())


@pytest.mark.parametrize(("at", "allowed"), [(0, False), (4, False), (5, True), (6, True)])
def test_the_first_generation_waits_for_its_targets(at: int, *, allowed: bool) -> None:
    """G2: every partition must have come to where the log ended."""
    mine = Generation(1, State.BUILDING, {0: Place(9, 9), 1: Place(at, 5)})
    assert may_go_live(mine, None) is allowed


def test_a_level_generation_that_missed_its_target_still_waits() -> None:
    """G2 holds for later ones as well: the live one may be far behind the log."""
    live = generation(State.LIVE, {0: 3})
    assert not may_go_live(generation(State.BUILDING, {0: 3}, target=4), live)


@given(st.integers(0, 10), st.integers(1, 10), st.integers(0, 10))
def test_records_are_folded_once_and_none_is_left_out(first: int, number: int, at: int) -> None:
    """G3 and G4."""
    records = [record(offset) for offset in range(first, first + number)]
    if first > at:
        with pytest.raises(CorruptData) as caught:
            unseen(records, at)
        assert caught.value.stable_code == "log_has_a_gap"
        return
    assert [one.offset for one in unseen(records, at)] == list(range(at, first + number))


def test_a_gap_in_the_middle_is_noticed() -> None:
    """G4, behind records that are folded already."""
    with pytest.raises(CorruptData):
        unseen([record(3), record(4), record(6)], 4)
