"""Pitfalls of an event loop: each shown, then its remedy."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

from month3_messaging.concurrency import BlockingPool, LoopTasks, finish_despite_cancel
from scalelab.errors import Overloaded, Unavailable

pytestmark = pytest.mark.anyio
LONG_S = 30.0


async def ticks_during(work: asyncio.Future[Any]) -> int:
    """How often another task of the loop was run before `work` was done."""
    ticks = 0
    while not work.done():
        ticks += 1
        await asyncio.sleep(0)
    await work
    return ticks


async def test_a_blocking_call_stops_every_other_task() -> None:
    """Nobody can open its gate but a thread: the loop itself stands still."""
    gate = threading.Event()
    ticks_seen: list[int] = []
    counting = [0]

    async def other() -> None:
        while not gate.is_set():
            counting[0] += 1
            await asyncio.sleep(0)

    async def blocks() -> None:
        before = counting[0]
        timer = threading.Timer(0.05, gate.set)
        timer.start()
        gate.wait(LONG_S)  # the mistake: it holds the loop's only thread
        timer.join()
        ticks_seen.append(counting[0] - before)

    await asyncio.gather(other(), blocks())
    assert ticks_seen == [0]


async def test_in_a_pool_it_stops_nobody() -> None:
    """The same wait, handed to a thread: others run, and one of them ends it."""
    gate = threading.Event()
    with BlockingPool("p", threads=1, waiting=0) as pool:
        call = asyncio.ensure_future(
            pool.call_from_loop(lambda: gate.wait(LONG_S), timeout_s=LONG_S)
        )
        for _ in range(10):
            await asyncio.sleep(0)
        assert not call.done()
        gate.set()
        assert await ticks_during(call) >= 0


async def test_a_task_nobody_holds_is_lost() -> None:
    """The loop's own references are weak: what waits for something unreachable is collected."""
    complaints: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: complaints.append(context["message"]))

    async def waits() -> None:
        await loop.create_future()

    loop.create_task(waits())  # noqa: RUF006 -- the mistake that is shown
    await asyncio.sleep(0)
    gc.collect()
    assert complaints == ["Task was destroyed but it is pending!"]
    loop.set_exception_handler(None)


async def test_a_task_that_is_held_is_finished() -> None:
    """Until its end, however often garbage is collected."""
    finished: list[int] = []
    go_on = asyncio.Event()

    async def waits() -> None:
        await go_on.wait()
        finished.append(1)

    async with LoopTasks(most=1, drain_s=LONG_S, on_error=_unexpected) as tasks:
        tasks.begin(waits(), name="waits")
        await asyncio.sleep(0)
        gc.collect()
        go_on.set()
    assert finished == [1]


def _unexpected(name: str, error: BaseException) -> None:
    raise AssertionError(f"{name} failed: {error}")


async def test_a_failing_task_is_reported_and_ends_nobody_else() -> None:
    """By name, once."""
    reported: list[tuple[str, str]] = []
    finished: list[int] = []

    async def fails() -> None:
        raise ValueError("no")

    async def works() -> None:
        await asyncio.sleep(0)
        finished.append(1)

    async with LoopTasks(
        most=2, drain_s=LONG_S, on_error=lambda name, error: reported.append((name, str(error)))
    ) as tasks:
        tasks.begin(fails(), name="fails")
        tasks.begin(works(), name="works")
    assert (reported, finished) == ([("fails", "no")], [1])


async def test_more_tasks_than_allowed_are_refused() -> None:
    """And what was refused has not begun, nor is it a coroutine nobody awaits."""
    begun: list[int] = []
    go_on = asyncio.Event()

    async def waits(number: int) -> None:
        begun.append(number)
        await go_on.wait()

    async with LoopTasks(most=1, drain_s=LONG_S, on_error=_unexpected) as tasks:
        tasks.begin(waits(1), name="1")
        with pytest.raises(Overloaded) as refused:
            tasks.begin(waits(2), name="2")
        go_on.set()
    assert (begun, refused.value.stable_code) == ([1], "tasks_full")
    with pytest.raises(Unavailable):
        tasks.begin(waits(3), name="3")


async def test_a_task_that_does_not_end_is_cancelled_at_the_end() -> None:
    """After the time to drain, and waited for."""
    cleaned: list[int] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(1)

    async with LoopTasks(most=1, drain_s=0.01, on_error=_unexpected) as tasks:
        tasks.begin(waits(), name="waits")
        await asyncio.sleep(0)
    assert cleaned == [1]


async def transfer(books: dict[str, int], between: asyncio.Event) -> None:
    """Two steps with an await between them."""
    books["from"] -= 1
    await between.wait()
    books["to"] += 1


async def test_a_cancel_between_two_steps_leaves_half() -> None:
    """The money is gone from one side and nowhere else."""
    books = {"from": 1, "to": 0}
    task = asyncio.create_task(transfer(books, asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert books == {"from": 0, "to": 0}


async def test_a_cancel_waits_for_steps_that_belong_together() -> None:
    """Cancelled twice, it finishes all the same, and the cancel is not swallowed."""
    books = {"from": 1, "to": 0}
    between = asyncio.Event()
    task = asyncio.create_task(finish_despite_cancel(transfer(books, between)))
    for _ in range(2):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    between.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert books == {"from": 0, "to": 1}


async def test_what_the_steps_raise_is_raised() -> None:
    """Their error says more than the cancel."""

    async def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await finish_despite_cancel(fails())


async def _sell(shelf: dict[str, int], lock: asyncio.Lock | None) -> bool:
    """Look, ask somebody, then write: with a lock around it or without."""
    if lock is not None:
        async with lock:
            return await _sell(shelf, None)
    free = shelf["free"]
    await asyncio.sleep(0)
    if free < 1:
        return False
    shelf["free"] = free - 1
    return True


async def test_state_kept_over_an_await_sells_a_piece_twice() -> None:
    """One thread and no parallelism at all, and still a race."""
    shelf = {"free": 1}
    sold = await asyncio.gather(*(_sell(shelf, None) for _ in range(2)))
    assert (sold, shelf["free"]) == ([True, True], 0)


async def test_a_lock_over_the_await_sells_it_once() -> None:
    """Look, ask and write are one step for everybody who takes the lock."""
    shelf, lock = {"free": 1}, asyncio.Lock()
    sold = await asyncio.gather(*(_sell(shelf, lock) for _ in range(2)))
    assert (sold, shelf["free"]) == ([True, False], 0)
