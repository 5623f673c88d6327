"""A lane: one partition's records, worked off in order by one task, singly or many at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice

from scalelab.clients.kafka import Partition, Record

Settle = Callable[[Sequence[Record], Callable[[int], None]], Awaitable[None]]
"""Carries out records, in order. It tells the offsets up to which they are settled for good, the
last one at the latest when it returns."""


class Lane:
    """Holds what was fetched from one partition and settles it, `most` records at a time or fewer.

    on_failure: told of an exception that escaped `settle`; the lane stands still after it. full:
    records at which the lane is full: the caller bounds it by not fetching for it then.
    """

    def __init__(
        self,
        partition: Partition,
        first_offset: int,
        *,
        settle: Settle,
        on_failure: Callable[[BaseException], None],
        full: int,
        most: int = 1,
    ) -> None:
        self.partition = partition
        self.position = first_offset
        """The next offset to commit: everything before it is settled."""
        self._settle = settle
        self._on_failure = on_failure
        self._full = full
        self._most = most
        self._records: deque[Record] = deque()
        self._filled = asyncio.Event()
        self._closing = False
        self._task = asyncio.create_task(self._work(), name=f"lane {partition[0]}/{partition[1]}")

    @property
    def fill(self) -> float:
        """How full the lane is, 1.0 at its bound; what is being carried out counts."""
        return len(self._records) / self._full

    @property
    def held(self) -> int:
        """Records that are here and not settled."""
        return len(self._records)

    def add(self, record: Record) -> None:
        """Queue the next record of the partition."""
        self._records.append(record)
        self._filled.set()

    async def close(self, *, grace_s: float) -> None:
        """Take no further records; let the current ones end within `grace_s`, then cancel them.

        What was cancelled was not settled: its transaction rolls back and it is read again by
        whoever owns the partition next.
        """
        self._closing = True
        self._filled.set()
        if grace_s > 0:
            await asyncio.wait([self._task], timeout=grace_s)
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _work(self) -> None:
        try:
            while not self._closing:
                if not self._records:
                    self._filled.clear()
                    await self._filled.wait()
                    continue
                await self._settle(list(islice(self._records, self._most)), self._settled)
        except Exception as error:  # noqa: BLE001 (handed to the owner, who stops and raises it)
            self._on_failure(error)

    def _settled(self, offset: int) -> None:
        """All up to `offset` is settled."""
        while self._records and self._records[0].offset <= offset:
            self._records.popleft()
        self.position = offset + 1
