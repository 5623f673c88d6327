"""The bulkhead bounds what runs and what waits."""

from __future__ import annotations

import asyncio

import pytest

from scalelab.errors import DeadlineExceeded, Overloaded
from scalelab.resilience import Bulkhead


async def hold(bulkhead: Bulkhead, go: asyncio.Event, log: list[str], name: str) -> None:
    async with bulkhead.place():
        log.append(name)
        await go.wait()


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_callers_beyond_limit_and_queue_are_refused_at_once() -> None:
    """One runs, one waits, the third is told to come back; then the second gets its place."""
    bulkhead, go, log = Bulkhead("peer", limit=1, waiting=1), asyncio.Event(), list[str]()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(hold(bulkhead, go, log, "first"))
        tasks.create_task(hold(bulkhead, go, log, "second"))
        await settle()
        with pytest.raises(Overloaded) as refusal:
            async with bulkhead.place():
                pytest.fail("there is no place")
        assert refusal.value.stable_code == "bulkhead_full"
        assert log == ["first"]
        go.set()
    assert log == ["first", "second"]
    assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)


async def test_a_caller_that_gives_up_waiting_takes_no_place() -> None:
    """A time-out and a cancellation in the queue both leave the count right."""
    bulkhead, go = Bulkhead("peer", limit=1, waiting=5), asyncio.Event()
    holder = asyncio.create_task(hold(bulkhead, go, [], "holder"))
    await settle()
    with pytest.raises(DeadlineExceeded):
        async with bulkhead.place(timeout_s=0.001):
            pytest.fail("there is no place")
    waiter = asyncio.create_task(hold(bulkhead, go, [], "waiter"))
    await settle()
    waiter.cancel()
    await settle()
    go.set()
    await holder
    assert (bulkhead.in_use, bulkhead.waiting) == (0, 0)


async def test_a_place_handed_to_a_cancelled_waiter_is_passed_on() -> None:
    """The hand-over and the cancellation happen in the same turn of the loop."""
    bulkhead, first, others = Bulkhead("peer", limit=1, waiting=5), asyncio.Event(), asyncio.Event()
    log: list[str] = []
    holder = asyncio.create_task(hold(bulkhead, first, log, "holder"))
    await settle()
    doomed = asyncio.create_task(hold(bulkhead, others, log, "doomed"))
    last = asyncio.create_task(hold(bulkhead, others, log, "last"))
    await settle()
    others.set()
    first.set()
    while not holder.done():
        await asyncio.sleep(0)
        doomed.cancel()
    await last
    assert "last" in log
    assert bulkhead.in_use == 0
