"""All schedules: each once, none missing, and what they say of small programs."""

from __future__ import annotations

from math import factorial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month3_messaging.concurrency import Step, explore, schedules
from scalelab.errors import InvalidInput


@given(st.lists(st.integers(0, 3), min_size=1, max_size=3))
def test_every_schedule_comes_once_and_keeps_each_programs_order(lengths: list[int]) -> None:
    """I1 and I2: as many as the multinomial coefficient says."""
    found = list(schedules(lengths))
    expected = factorial(sum(lengths))
    for length in lengths:
        expected //= factorial(length)
    assert len(found) == len(set(found)) == expected
    assert all([order.count(n) for n in range(len(lengths))] == lengths for order in found)


def mark(name: str) -> Step[list[str]]:
    """A step that leaves its name."""
    return Step(lambda trace: trace.append(name))


def test_explored_are_the_schedules() -> None:
    """With steps that never wait: two programs of two steps, six different traces."""
    seen = explore(list[str], [[mark("a"), mark("b")], [mark("c"), mark("d")]], tuple)
    assert len(seen.ended) == seen.total == 6
    assert all(trace.index("a") < trace.index("b") for trace in seen.ended)


def test_two_locks_in_opposite_orders_get_stuck_in_some_schedules() -> None:
    """A deadlock needs no luck here: it is 2 of the 4 ways to begin."""

    def lock(name: str) -> Step[set[str]]:
        return Step(lambda held: held.add(name), lambda held: name not in held)

    def release(name: str) -> Step[set[str]]:
        return Step(lambda held: held.remove(name))

    one = [lock("a"), lock("b"), release("b"), release("a")]
    other = [lock("b"), lock("a"), release("a"), release("b")]
    assert explore(set[str], [one, other], frozenset).stuck == 2
    assert explore(set[str], [one, one], frozenset).stuck == 0


def test_too_many_schedules_are_refused() -> None:
    """Eleven programs of one step have 39,916,800."""
    with pytest.raises(InvalidInput):
        explore(list[str], [[mark(str(n))] for n in range(11)], len, most=1000)
