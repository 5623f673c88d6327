"""Streaming over shards: rows in one order, as many as the caller takes, in bounded memory.

Every shard holds a cursor; a heap has one row of each, and the smallest is handed out. Of a shard
at most `batch` rows are here at a time. A shard that fails ends the stream: rows that are missing
in the middle would look like rows that do not exist.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from psycopg import AsyncServerCursor

from month2_databases.sharding.merge import Ordered, Row
from month2_databases.sharding.shard_pool import Statement
from scalelab.clients.postgres import Database


@asynccontextmanager
async def streamed(
    databases: Mapping[str, Database],
    statement: Statement,
    params: Sequence[object],
    *,
    order: Ordered,
    batch: int,
    timeout_s: float,
) -> AsyncGenerator[AsyncIterator[Row], None]:
    """`async with streamed(...) as rows: async for row in rows`. timeout_s: of the whole stream.

    Leaving the block early closes the cursors. One transaction a shard is open meanwhile, and keeps
    the server from cleaning up what it may still read: this is for exports, not for waiting users.
    """
    async with AsyncExitStack() as stack:
        sources: list[_Source] = []
        for database in databases.values():
            conn = await stack.enter_async_context(
                database.transaction(read_only=True, timeout_s=timeout_s)
            )
            cursor = await stack.enter_async_context(conn.cursor("streamed"))
            sources.append(_Source(cursor, order, batch))
        await asyncio.gather(*(source.open(statement, params) for source in sources))
        yield _merged(sources, order)


class _Source:
    """One shard's rows, a batch at a time."""

    def __init__(self, cursor: AsyncServerCursor[Any], order: Ordered, batch: int) -> None:
        self._cursor = cursor
        self._order = order
        self._batch = batch
        self._rows: deque[Row] = deque()
        self._last: Row | None = None

    async def open(self, statement: Statement, params: Sequence[object]) -> None:
        await self._cursor.execute(statement, params)
        await self._fill()

    async def take(self) -> Row | None:
        """The next row, or None at the end."""
        if not self._rows:
            await self._fill()
        if not self._rows:
            return None
        self._last = self._rows.popleft()
        return self._last

    async def _fill(self) -> None:
        fetched = await self._cursor.fetchmany(self._batch)
        known = [] if self._last is None else [self._last]
        for _ in self._order.checked([*known, *fetched]):
            pass
        self._rows.extend(fetched)


async def _merged(sources: Sequence[_Source], order: Ordered) -> AsyncIterator[Row]:
    heap: list[_Entry] = []
    for place, source in enumerate(sources):
        if (row := await source.take()) is not None:
            heap.append(_Entry(order, row, place))
    heapq.heapify(heap)
    left = order.limit
    while heap and left != 0:
        first = heap[0]
        yield first.row
        left = None if left is None else left - 1
        following = await sources[first.place].take()
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, _Entry(order, following, first.place))


class _Entry:
    """A row in the heap; equal ranks come in the order of the shards."""

    __slots__ = ("_descending", "_rank", "place", "row")

    def __init__(self, order: Ordered, row: Row, place: int) -> None:
        self.row, self.place = row, place
        self._rank = order.rank(row)
        self._descending = order.descending

    def __lt__(self, other: _Entry) -> bool:
        if self._rank == other._rank:
            return self.place < other.place
        return (self._rank > other._rank) if self._descending else (self._rank < other._rank)
