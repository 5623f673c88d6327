"""A bounded pool of threads around calls that block: a pool for each dependency is a bulkhead.

Theory of operation
    A thread that waits for a slow dependency cannot be stopped from outside. So two things are
    bounded: how many threads may wait (`threads`) and how many calls may stand behind them
    (`waiting`). Whoever comes next is refused at once, while refusing is still cheap.
    A caller's time-out ends the caller's waiting and nothing else. A call that had not begun is
    taken back, and then nothing happened; one that had begun goes on, keeps its thread, and its
    outcome is unknown. Only a time-out inside the call (the socket's) gives the thread back.

Invariants (tests cite them)
    I1  At most `threads` calls run and at most `waiting` wait.
    I2  A call that was refused or taken back is never begun.
    I3  Every call that was begun ends before `close` returns.

Absent on purpose: priorities, and growing under load: a pool that grows bounds nothing.
Source: Nygard 2007, "Release It!", bulkheads; differs in: an abandoned call is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from scalelab.errors import DeadlineExceeded, InvalidInput, OutcomeUnknown, Overloaded, Unavailable

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """What a pool did so far, in calls. running, waiting: now. abandoned: their caller's time was
    up after they had begun. taken_back: it was up before."""

    running: int
    waiting: int
    done: int
    refused: int
    taken_back: int
    abandoned: int


@dataclass(slots=True)
class _Job:
    work: Callable[[], Any]
    future: Future[Any]


class BlockingPool:
    """threads: calls at once, >= 1. waiting: calls that may queue, >= 0. Use it as a context.

    Safe from any thread but its own: a call that waits for another call of its pool may wait for
    ever. All threads start with the pool, so that none is missing under load.
    """

    def __init__(self, name: str, *, threads: int, waiting: int) -> None:
        if threads < 1 or waiting < 0:
            raise InvalidInput(
                f"pool {name}: {threads} threads or {waiting} waiting is too few", field="threads"
            )
        self._name = name
        self._most_waiting = waiting
        self._state = threading.Condition()
        self._queue: deque[_Job] = deque()
        self._running = 0
        self._done = 0
        self._refused = 0
        self._taken_back = 0
        self._abandoned = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"{name}-{number}")
            for number in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def threads(self) -> int:
        """How many it has, idle or not."""
        return len(self._threads)

    def counts(self) -> PoolCounts:
        """All numbers of one moment."""
        with self._state:
            return PoolCounts(
                self._running,
                len(self._queue),
                self._done,
                self._refused,
                self._taken_back,
                self._abandoned,
            )

    def submit(self, work: Callable[[], R]) -> Future[R]:
        """Hand over a call. Never blocks.

        Raises Overloaded code `pool_full`, or Unavailable code `pool_closed`; the call was then
        not taken (I2).
        """
        future: Future[R] = Future()
        with self._state:
            if self._closed:
                raise Unavailable(f"{self._name} is closed", code="pool_closed")
            free = len(self._threads) - self._running
            if len(self._queue) >= free + self._most_waiting:
                self._refused += 1
                raise Overloaded(f"{self._name} is full", retry_after_s=0.1, code="pool_full")
            self._queue.append(_Job(work, future))
            self._state.notify()
        return future

    def call(self, work: Callable[[], R], *, timeout_s: float) -> R:
        """Run `work` in the pool and wait for its answer, at most `timeout_s` seconds.

        Raises what `work` raises, and as `submit` does; DeadlineExceeded if it had not begun,
        OutcomeUnknown if it had.
        """
        future = self.submit(work)
        try:
            return future.result(timeout_s)
        except FutureTimeoutError as error:
            if future.done():  # it came at the last moment, or the call itself timed out
                return future.result()
            raise self._give_up(future, timeout_s) from error

    async def call_from_loop(self, work: Callable[[], R], *, timeout_s: float) -> R:
        """As `call`, from an event loop, which goes on meanwhile.

        A caller that is cancelled has given up too: the call is taken back or abandoned.
        """
        future = self.submit(work)
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()

        def ring(_: Future[R]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop ended before an abandoned call did
                loop.call_soon_threadsafe(arrived.set)

        future.add_done_callback(ring)
        try:
            async with asyncio.timeout(timeout_s):
                await arrived.wait()
        except TimeoutError as error:
            if not future.done():
                raise self._give_up(future, timeout_s) from error
        except asyncio.CancelledError:
            self._give_up(future, timeout_s)
            raise
        return future.result()

    def close(self) -> None:
        """Take no more calls, drop those that wait, wait for those that run (I3). Repeatable."""
        with self._state:
            self._closed = True
            dropped = list(self._queue)
            self._queue.clear()
            self._taken_back += len(dropped)
            self._state.notify_all()
        for job in dropped:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(
                    Unavailable(f"{self._name} was closed", code="pool_closed")
                )
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join()

    def _give_up(self, future: Future[Any], timeout_s: float) -> DeadlineExceeded | OutcomeUnknown:
        with self._state:
            waiting = next((job for job in self._queue if job.future is future), None)
            if waiting is not None:
                self._queue.remove(waiting)
                self._taken_back += 1
            else:
                self._abandoned += 1
        if waiting is not None:
            future.cancel()
            return DeadlineExceeded(f"{self._name} had no thread within {timeout_s} s")
        return OutcomeUnknown(f"{self._name} gave no answer within {timeout_s} s")

    def _serve(self) -> None:
        while True:
            with self._state:
                self._state.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return
                job = self._queue.popleft()
                self._running += 1
            answer: Any = None
            failure: BaseException | None = None
            if begun := job.future.set_running_or_notify_cancel():
                try:
                    answer = job.work()
                except BaseException as error:  # noqa: BLE001 -- it belongs to the caller
                    failure = error
            with self._state:  # before the answer, so that who has it finds a free thread
                self._running -= 1
                self._done += begun
            if not begun:
                continue
            if failure is None:
                job.future.set_result(answer)
            else:
                job.future.set_exception(failure)
