"""A lane with a queue for each key: a partition's records, in order per key, keys side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from month3_messaging.workers.key_queues import KeyQueues
from scalelab.clients.kafka import Partition, Record


class KeyedLane:
    """Settles the records of one partition as key_queues.py lets it; a lane as lane.py's is.

    places: keys in hand at once, those that wait for their next try included. full: records held
    at which the lane is full. ahead_full: the same for records that a crash would repeat, because
    they are done and one before them is not.
    """

    def __init__(
        self,
        partition: Partition,
        first_offset: int,
        *,
        settle: Callable[[Record], Awaitable[None]],
        on_failure: Callable[[BaseException], None],
        places: int,
        full: int,
        ahead_full: int,
    ) -> None:
        self.partition = partition
        self._queues = KeyQueues(first_offset, places=places)
        self._settle = settle
        self._on_failure = on_failure
        self._full = full
        self._ahead_full = ahead_full
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def position(self) -> int:
        """The next offset to commit: everything before it is settled."""
        return self._queues.position

    @property
    def fill(self) -> float:
        """How full the lane is, 1.0 at its bound; the caller then fetches no more for it."""
        return max(self._queues.held / self._full, self._queues.ahead / self._ahead_full)

    @property
    def held(self) -> int:
        """Records that are here and not settled."""
        return self._queues.held

    def add(self, record: Record) -> None:
        """Queue the next record of the partition."""
        self._queues.add(record)
        self._begin()

    async def close(self, *, grace_s: float) -> None:
        """Begin no further record; let those in hand end within `grace_s`, then cancel them.

        A cancelled record was not settled: its transaction rolls back and it is read again by
        whoever owns the partition next, with all its tries before it.
        """
        self._closing = True
        if self._tasks and grace_s > 0:
            await asyncio.wait(self._tasks, timeout=grace_s)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self) -> None:
        if self._closing:
            return
        for record in self._queues.take():
            task = asyncio.create_task(self._carry(record), name=f"key {record.key}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, record: Record) -> None:
        try:
            await self._settle(record)
        except Exception as error:  # noqa: BLE001 (handed to the owner, who stops and raises it)
            self._on_failure(error)
            return
        self._queues.done(record.offset)
        self._begin()
