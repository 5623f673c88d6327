"""What a spike does to direct calls is arithmetic, and the threads of a pool agree with it."""

from __future__ import annotations

import itertools

import pytest

from month3_messaging.experiments.queue_spike import (
    CAPACITY,
    SEATS,
    SPIKE_TICKS,
    USUAL,
    arithmetic,
    arrivals,
    directly,
)


def test_a_queue_s_backlog_is_the_load_less_the_capacity() -> None:
    """Twice the capacity: it grows by a capacity a tick, and shrinks by what is usually free."""
    seen = arithmetic(arrivals(2), None)
    assert max(seen.backlog) == CAPACITY * SPIKE_TICKS
    drained_after = CAPACITY * SPIKE_TICKS // (CAPACITY - USUAL)
    assert len(seen.backlog) == 5 + SPIKE_TICKS + drained_after
    assert (seen.refused, seen.lost) == (0, 0)


def test_a_room_refuses_what_it_has_no_seat_for() -> None:
    """Of the first tick over the capacity the seats take some; later ones are refused whole."""
    seen = arithmetic(itertools.repeat(3 * CAPACITY, 2), SEATS)
    assert seen.refused == 2 * 3 * CAPACITY - 2 * CAPACITY - SEATS
    assert seen.backlog == [SEATS, SEATS]


@pytest.mark.parametrize("times", [1, 2, 4])
def test_real_threads_refuse_and_wait_as_the_arithmetic_says(times: int) -> None:
    """Refusals, backlog after every tick, and the longest wait."""
    assert directly(arrivals(times)) == arithmetic(arrivals(times), SEATS)
