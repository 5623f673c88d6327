"""A shelf between a log and its readers: invariants L1..L4 of lanes.py."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from month3_messaging.broker.lanes import Shelf
from scalelab.clients.kafka_records import Record

STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "take", "done", "again"]), st.integers(0, 5)), max_size=60
)


def record(offset: int) -> Record:
    return Record("t", 0, offset, "k", b"", {}, 0)


def offsets(taken: list[tuple[Record, int]]) -> list[int]:
    return [one.offset for one, _ in taken]


@given(STEPS, st.booleans())
def test_the_position_never_passes_what_is_not_done(
    steps: list[tuple[str, int]], ordered: bool
) -> None:
    """L1 and L4 for any sequence of calls; L2 where it is ordered."""
    shelf = Shelf(ordered=ordered)
    added, done, nacks, in_hand = 0, set[int](), dict[int, int](), list[int]()
    for step, number in steps:
        if step == "add":
            shelf.add(record(offset) for offset in range(added, added + number))
            added += number
        elif step == "take":
            for one, count in shelf.take(number):
                assert count == nacks.get(one.offset, 0) + 1
                in_hand.append(one.offset)
        elif in_hand:
            offset = in_hand.pop(number % len(in_hand))
            if step == "done":
                assert shelf.done(offset)
                done.add(offset)
            else:
                assert shelf.again(offset)
                nacks[offset] = nacks.get(offset, 0) + 1
        left = [offset for offset in range(added) if offset not in done]
        assert shelf.position == (min(left) if left else added if added else None)
        assert shelf.held == len(left)
        if ordered:
            assert in_hand in ([], left[:1])


def test_a_nacked_record_comes_before_what_was_never_handed_out() -> None:
    """L3, with two of them given back in the wrong order."""
    shelf = Shelf(ordered=False)
    shelf.add(map(record, range(6)))
    assert offsets(shelf.take(3)) == [0, 1, 2]
    shelf.again(2)
    shelf.again(0)
    assert offsets(shelf.take(4)) == [0, 2, 3, 4]


def test_a_record_is_not_taken_twice() -> None:
    """A fetch that begins too early repeats records; those that are here, or done, stay so."""
    shelf = Shelf(ordered=False)
    shelf.add(map(record, range(3)))
    shelf.take(1)
    shelf.done(0)
    shelf.add(map(record, range(4)))
    assert offsets(shelf.take(10)) == [1, 2, 3]


def test_an_answer_to_what_is_not_in_hand_changes_nothing() -> None:
    """A second ack, a nack after it, an offset that was never here."""
    shelf = Shelf(ordered=False)
    shelf.add(map(record, range(2)))
    shelf.take(1)
    assert shelf.done(0)
    assert not shelf.done(0)
    assert not shelf.again(0)
    assert not shelf.done(1)
    assert (shelf.position, shelf.held) == (1, 1)
