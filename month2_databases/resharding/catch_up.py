"""Catch-up: from the change stream into the target, whole transactions at a time.

How far behind it is, it learns from marks: messages that it puts into the source's log itself and
then waits for. Between a mark's commit and its arrival everything older has arrived, whatever the
clocks say and however busy the other slots are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Self

from psycopg import AsyncConnection

from month2_databases.resharding.row_changes import Collector
from month2_databases.resharding.source import Source
from month2_databases.resharding.steps import Move
from month2_databases.resharding.tables import Layout
from month2_databases.resharding.target import Target
from scalelab.clients import pgoutput
from scalelab.clients.change_stream import ChangeStream
from scalelab.errors import Conflict, Unavailable

_BATCH_CHANGES = 500
_BATCH_TRANSACTIONS = 5000
_SILENCE_S = 30.0
_ROUNDS = 200
_OPEN_TRIES = 50


class CatchUp:
    """One session of catching up; an async context manager. applied: changes so far.

    Entering raises SlotLost where the slot or what it needs is gone, Conflict code
    `move_not_copied` where there is no copy to catch up with.
    """

    def __init__(
        self, source: Source, target: Target, move: Move, layouts: Sequence[Layout]
    ) -> None:
        self._source = source
        self._target = target
        self._move = move
        self._collector = Collector(
            move.slots, {layout.table.name: layout.table.slot for layout in layouts}
        )
        self._stack = AsyncExitStack()
        self._stream: ChangeStream | None = None
        self._conn: AsyncConnection[Any] | None = None
        self._marks = 0
        self.applied = 0

    async def __aenter__(self) -> Self:
        progress = await self._target.progress()
        if progress is None:
            raise Conflict(
                f"{self._move.name} has no copy to catch up with", code="move_not_copied"
            )
        async with AsyncExitStack() as stack:
            self._stream = await self._open(stack, progress)
            self._conn = await stack.enter_async_context(self._target.applying())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()

    async def until_few_are_left(self, transactions: int) -> None:
        """Return when at most so many of the source's transactions came while the last were
        applied. Raises Unavailable code `catch_up_too_slow` if writes come faster than that."""
        for _ in range(_ROUNDS):
            if await self.up_to(await self._source.mark(self.next_mark())) <= transactions:
                return
        raise Unavailable(
            f"{self._move.source} writes faster than {self._move.target} can follow",
            code="catch_up_too_slow",
        )

    def next_mark(self) -> str:
        """A mark that was not used before, by no owner of this move."""
        self._marks += 1
        return f"{self._move.name}:{self._move.epoch}:{self._marks}"

    async def up_to(self, mark: str) -> int:
        """Apply everything before this mark. Returns the number of transactions, of all slots."""
        seen = 0
        stream, content = self._opened(), mark.encode()
        while True:
            data = await stream.read(timeout_s=_SILENCE_S)
            if data is None:
                raise Unavailable(f"{self._move.source} is silent", code="stream_silent")
            message = pgoutput.decode(data)
            self._collector.add(message)
            if not isinstance(message, pgoutput.Commit):
                continue
            seen += 1
            marked = self._collector.has_said(content)
            if (
                marked
                or self._collector.pending >= _BATCH_CHANGES
                or self._collector.transactions >= _BATCH_TRANSACTIONS
            ):
                await self._apply()
            if marked:
                return seen

    async def _apply(self) -> None:
        batch = self._collector.take()
        if self._conn is None:
            raise Unavailable("the target's session has not begun")
        await self._target.apply(self._conn, batch)
        self.applied += len(batch.changes)
        self._opened().confirm(batch.end_lsn)

    async def _open(self, stack: AsyncExitStack, progress: int) -> ChangeStream:
        """The stream, once an earlier owner's connection has let go of the slot."""
        for _ in range(_OPEN_TRIES):
            try:
                return await stack.enter_async_context(
                    ChangeStream(self._source.server.dsn, self._move.name, after_lsn=progress)
                )
            except Unavailable as error:
                if error.stable_code != "slot_in_use":
                    raise
            await self._source.end_readers()
            await asyncio.sleep(0.1)
        raise Unavailable(f"the slot {self._move.name} stays in use", code="slot_in_use")

    def _opened(self) -> ChangeStream:
        if self._stream is None:
            raise Unavailable("the change stream has not begun")
        return self._stream
