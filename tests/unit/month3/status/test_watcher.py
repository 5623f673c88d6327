"""A watcher's bounded queue: hints may be dropped, the advice to look never is."""

from __future__ import annotations

from datetime import UTC, datetime

from month3_messaging.orders import Status, StatusChange
from month3_messaging.status import Watcher


def change(version: int) -> StatusChange:
    return StatusChange(version, Status.PAID, datetime(2026, 1, 1, tzinfo=UTC))


async def test_hints_come_in_order() -> None:
    """While there is room, each hint is handed on."""
    watcher = Watcher(bound=2)
    watcher.tell(change(1))
    watcher.tell(change(2))
    assert [await watcher.next(), await watcher.next()] == [change(1), change(2)]


async def test_an_overflow_becomes_the_advice_to_look() -> None:
    """The queue never grows; what it held is superseded by the history."""
    watcher = Watcher(bound=2)
    for version in range(1, 6):
        watcher.tell(change(version))
    assert await watcher.next() is None
    watcher.tell(change(6))
    assert await watcher.next() == change(6)


async def test_a_lost_listener_becomes_the_advice_to_look() -> None:
    """Even when no hint is waiting."""
    watcher = Watcher(bound=2)
    watcher.look_again()
    assert await watcher.next() is None
