"""Claims about group commit: B1 to B3 of month5_kvstore/log/group_commit.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month5_kvstore.log import GroupCommit, LogQueueFull, LogStopped
from scalelab.errors import InvariantBroken


@given(steps=st.lists(st.one_of(st.integers(1, 50), st.none()), max_size=60))
def test_everything_offered_is_flushed_once_and_in_order(steps: list[int | None]) -> None:
    """B1: numbers are offers of that size, None is the end of a flush."""
    queue: GroupCommit[int] = GroupCommit(batch_bytes=60)
    sizes: list[int] = []
    flushed: list[int] = []
    under_way: list[int] = []
    for step in [*steps, *[None] * (len(steps) + 1)]:
        if step is not None:
            queue.offer(len(sizes), step)
            sizes.append(step)
        elif under_way:
            queue.flushed()
            flushed += under_way
            under_way = []
        batch = queue.next_batch()
        assert not (batch and under_way), "two flushes at a time"
        assert len(batch) < 2 or sum(sizes[item] for item in batch) <= 60
        under_way = batch or under_way
    assert flushed == list(range(len(sizes)))


def test_a_lone_appender_does_not_wait() -> None:
    queue: GroupCommit[str] = GroupCommit()
    queue.offer("a", 1)
    assert queue.next_batch() == ["a"]


def test_those_who_come_during_a_flush_share_the_next_one() -> None:
    queue: GroupCommit[int] = GroupCommit()
    queue.offer(0, 1)
    assert queue.next_batch() == [0]
    for number in range(1, 129):
        queue.offer(number, 1)
    assert queue.next_batch() == []
    queue.flushed()
    assert queue.next_batch() == list(range(1, 129))


def test_more_than_the_bound_is_refused_and_not_taken() -> None:
    """B2."""
    queue: GroupCommit[str] = GroupCommit(waiting_bytes=10)
    queue.offer("a", 8)
    queue.offer("b", 8)
    with pytest.raises(LogQueueFull):
        queue.offer("c", 1)
    assert queue.next_batch() == ["a", "b"]
    queue.offer("d", 1)


def test_after_a_stop_nothing_is_taken_or_flushed() -> None:
    """B3."""
    queue: GroupCommit[str] = GroupCommit()
    queue.offer("a", 1)
    assert queue.stop("the disk failed") == ["a"]
    assert queue.next_batch() == []
    with pytest.raises(LogStopped, match="the disk failed"):
        queue.offer("b", 1)


def test_a_flush_that_nobody_began_cannot_end() -> None:
    with pytest.raises(InvariantBroken):
        GroupCommit[str]().flushed()
