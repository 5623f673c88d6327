"""Where a process stands between start and stop, and which requests it still owes an answer."""

from __future__ import annotations

import asyncio


class Lifecycle:
    """State of one app: started after its lifespan is up, draining from the stop on.

    `draining` is an event, so that long answers (SSE) can wait for it and end themselves.
    """

    def __init__(self) -> None:
        self.started = False
        self.startup_error: BaseException | None = None
        self.draining = asyncio.Event()
        self.aborting = False
        self._requests: set[asyncio.Task[object]] = set()

    @property
    def in_flight(self) -> int:
        """Requests being answered now."""
        return len(self._requests)

    def enter(self) -> asyncio.Task[object] | None:
        """Note that the current task answers a request; hand the result to `leave`."""
        task: asyncio.Task[object] | None = asyncio.current_task()
        if task is not None:
            self._requests.add(task)
        return task

    def leave(self, task: asyncio.Task[object] | None) -> None:
        """The request of `task` has its answer."""
        if task is not None:
            self._requests.discard(task)

    def begin_drain(self) -> None:
        """Say no to readiness from now on and ask long answers to end."""
        self.draining.set()

    def abort_requests(self) -> int:
        """Cancel what is still running at the end of the drain; their callers get 503."""
        self.aborting = True
        tasks = list(self._requests)
        for task in tasks:
            task.cancel("drain time is over")
        return len(tasks)
