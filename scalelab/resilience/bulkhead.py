"""Bulkhead: at most so many calls at once, at most so many waiting, the rest refused at once.

One slow dependency then holds a bounded share of the process, not all of it. Waiters are served
in the order they came. Used on one event loop, without locks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from scalelab.errors import DeadlineExceeded, Overloaded


class Bulkhead:
    """limit: calls at once, >= 1. waiting: callers that may queue, >= 0."""

    def __init__(self, name: str, *, limit: int, waiting: int) -> None:
        if limit < 1 or waiting < 0:
            raise ValueError(f"bulkhead {name}: limit {limit} or waiting {waiting} is too small")
        self._name = name
        self._limit = limit
        self._waiting_limit = waiting
        self._in_use = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def in_use(self) -> int:
        """Places taken now, 0..limit."""
        return self._in_use

    @property
    def waiting(self) -> int:
        """Callers in the queue now."""
        return len(self._queue)

    @asynccontextmanager
    async def place(self, *, timeout_s: float | None = None) -> AsyncGenerator[None, None]:
        """Hold one place for the block.

        Raises Overloaded code `bulkhead_full` if the queue is full, DeadlineExceeded if no place
        came free within `timeout_s`. In both cases nothing was started.
        """
        await self._enter(timeout_s)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, timeout_s: float | None) -> None:
        if self._in_use < self._limit:
            self._in_use += 1
            return
        if len(self._queue) >= self._waiting_limit:
            raise Overloaded(f"{self._name} is full", retry_after_s=0.1, code="bulkhead_full")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            async with asyncio.timeout(timeout_s):
                await turn
        except BaseException as error:
            self._abandon(turn)
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded(f"no place in {self._name} within {timeout_s} s") from error
            raise

    def _abandon(self, turn: asyncio.Future[None]) -> None:
        """Leave the queue; a place that was handed over at the same moment is passed on."""
        if turn.done() and not turn.cancelled():
            self._leave()
        elif turn in self._queue:
            self._queue.remove(turn)

    def _leave(self) -> None:
        """Hand the place to the first in the queue, else free it."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._in_use -= 1
