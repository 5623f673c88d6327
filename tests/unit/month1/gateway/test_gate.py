"""The gate by itself, on a clock that stands still: seats are neither lost nor given twice."""

from __future__ import annotations

import asyncio

import pytest

from month1_caching_gateway.gateway.gate import Gate, Seat, Shed, Turn
from scalelab.clock import ManualClock
from scalelab.errors import Overloaded
from scalelab.resilience.adaptive_limit import LimitPolicy
from scalelab.resilience.waiting_room import Priority, RoomPolicy

ONE = Shed(
    LimitPolicy(initial=1, minimum=1, maximum=1),
    RoomPolicy(seats=2, patience_s=30.0, crowded_s=30.0),
)


def seat(gate: Gate) -> Seat:
    found = gate.enter(Priority.NORMAL)
    assert isinstance(found, Seat)
    return found


def turn(gate: Gate) -> Turn:
    found = gate.enter(Priority.NORMAL)
    assert isinstance(found, Turn)
    return found


async def test_a_seat_that_came_as_its_caller_left_is_passed_on() -> None:
    """Granted, and forsaken before anybody heard of it; forsaking twice changes nothing."""
    gate = Gate(ONE, ManualClock())
    first, second, third = seat(gate), turn(gate), turn(gate)
    first.leave(0.01, dropped=False)
    assert (second.granted, third.granted, gate.in_flight) == (True, False, 1)
    gate.forsake(second)
    gate.forsake(second)
    assert (third.granted, gate.in_flight) == (True, 1)
    (await gate.wait(third)).leave(0.01, dropped=False)
    assert gate.in_flight == 0
    seat(gate)


async def test_a_task_cancelled_as_its_turn_came_gives_the_seat_back() -> None:
    """Both happen before the task runs again."""
    gate = Gate(ONE, ManualClock())
    first, second = seat(gate), turn(gate)
    waiting = asyncio.create_task(gate.wait(second))
    await asyncio.sleep(0)
    first.leave(0.01, dropped=False)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    assert gate.in_flight == 0


async def test_a_full_room_refuses_and_counts() -> None:
    """One in the seat, two in the room, the fourth goes."""
    gate = Gate(ONE, ManualClock())
    for enter in (seat, turn, turn):
        enter(gate)
    with pytest.raises(Overloaded):
        gate.enter(Priority.NORMAL)
    assert (gate.waiting, gate.shed) == (2, 1)
