"""Tasks on an event loop that are neither lost nor silent, and steps that a cancel must not cut.

The four pitfalls, each shown by a test beside its remedy:
    a call that blocks        stops every task, time-outs too  →  a pool of threads (BlockingPool)
    a task nobody holds       is collected while it waits      →  LoopTasks holds it
    a cancel between two steps  leaves half of them done       →  finish_despite_cancel
    state kept over an await  may have changed meanwhile       →  look again, or an asyncio.Lock
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from scalelab.errors import Overloaded, Unavailable

R = TypeVar("R")
OnError = Callable[[str, BaseException], None]


class LoopTasks:
    """Work that is begun now and not waited for. most: at once. on_error: name and error.

    An async context; at its end it waits for what runs (`drain_s` seconds), then cancels. The
    difference to a TaskGroup: a failing task is reported and ends nobody else.
    """

    def __init__(self, *, most: int, drain_s: float, on_error: OnError) -> None:
        self._most = most
        self._drain_s = drain_s
        self._on_error = on_error
        # The loop itself keeps weak references only.
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._drain_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, work: Coroutine[Any, Any, Any], *, name: str) -> None:
        """Start it. Raises Overloaded `tasks_full` or Unavailable `tasks_closed`; then it is closed
        and nothing of it has run."""
        if self._closed:
            work.close()
            raise Unavailable("no more tasks are begun here", code="tasks_closed")
        if len(self._tasks) >= self._most:
            work.close()
            raise Overloaded(f"{self._most} tasks run already", code="tasks_full")
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_error(task.get_name(), error)


async def finish_despite_cancel(work: Coroutine[Any, Any, R]) -> R:
    """Await `work` to its end; a cancel that came meanwhile is raised afterwards, not instead.

    For the few steps that must not be cut in two, and short: the canceller waits. A plain
    `asyncio.shield` lets the work run on with nobody waiting, and nobody to see its error.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except BaseException:  # noqa: BLE001 -- raised below, by result()
            break
    answer = task.result()
    if cancelled is not None:
        raise cancelled
    return answer
