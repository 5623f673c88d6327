"""The shard that slots leave: what a move does there, each act repeatable.

Traps that shape it
    A publication must be older than the slot that reads it, or the reader fails on the first row.
    A slot that nobody reads keeps the log for ever: it is the first thing made and the last kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql

from month2_databases.resharding.servers import ShardServer, connect_arguments, session
from month2_databases.resharding.tables import EmptiedTable, Layout
from month2_databases.sharding import fence_slots, give_up_slots, open_slots
from scalelab.clients.postgres_errors import Stage, lost
from scalelab.errors import Conflict, Unavailable

_MARK = "SELECT pg_logical_emit_message(true, 'reshard', %s)"

_DROP_SLOT = """
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
WHERE slot_name = %s AND NOT active
"""
_END_READER = """
SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s AND active
"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An exported snapshot, and the LSN from which the slot's changes follow it exactly."""

    name: str
    lsn: int


class Source:
    """Acts on the source of move `name`."""

    def __init__(self, server: ShardServer, name: str, slots: Sequence[int]) -> None:
        self.server = server
        self._name = name
        self._slots = list(slots)

    @asynccontextmanager
    async def follow_from_now(self, layouts: Sequence[Layout]) -> AsyncGenerator[Snapshot, None]:
        """Make publication and slot anew; the snapshot is good inside the block."""
        await self.leave_nothing()
        async with session(self.server) as conn:
            statement = sql.SQL("CREATE PUBLICATION {} FOR TABLE {}").format(
                sql.Identifier(self._name), sql.SQL(", ").join(one.name for one in layouts)
            )
            await conn.execute(statement)
        try:
            replication = await AsyncConnection[Any].connect(
                self.server.dsn,
                autocommit=True,
                replication="database",
                **connect_arguments("reshard"),
            )
        except psycopg.Error as error:
            raise lost(Stage.READING, self.server.name, str(error)) from error
        try:
            yield await _export(replication, self._name)
        finally:
            await replication.close()

    async def mark(self, content: str) -> str:
        """Put a message into the log, durably; returns it."""
        async with session(self.server) as conn:
            await conn.execute(_MARK, (content,))
        return content

    async def fence(
        self, mark: str, *, map_version: int, lock_timeout_s: float, tries: int
    ) -> None:
        """Take no more writes to the slots, and mark the place in the log. Repeatable.

        Writes under way are waited for, `lock_timeout_s` at a time so that others do not pile up
        behind the wait. Raises Unavailable code `slot_busy` when they never end.
        """
        for attempt in range(tries):
            try:
                async with session(self.server) as conn, conn.transaction():
                    await conn.execute(
                        "SELECT set_config('lock_timeout', %s, true)",
                        (f"{round(lock_timeout_s * 1000)}ms",),
                    )
                    await fence_slots(conn, self._slots, map_version=map_version)
                    await conn.execute(_MARK, (mark,))
                return
            except Conflict as error:
                if error.stable_code != "lock_timeout":
                    raise
                await asyncio.sleep(lock_timeout_s * min(attempt + 1, 5))
        raise Unavailable(f"writes to the slots on {self.server.name} do not end", code="slot_busy")

    async def await_empty(self, tables: Sequence[EmptiedTable], *, patience_s: float) -> None:
        """Return when no row of the fenced slots waits in these tables any more.

        Raises Unavailable code `slot_not_emptied` when that takes longer: who empties them is away.
        """
        try:
            async with session(self.server) as conn, asyncio.timeout(patience_s):
                for table in tables:
                    while await self._count(conn, table.waiting()):  # noqa: ASYNC110 - its state
                        await asyncio.sleep(0.005)
        except TimeoutError as error:
            raise Unavailable(
                f"{', '.join(one.name for one in tables)} on {self.server.name} does not empty",
                code="slot_not_emptied",
            ) from error

    async def _count(self, conn: AsyncConnection[Any], query: sql.Composed) -> int:
        row = await (await conn.execute(query, (self._slots,))).fetchone()
        return 0 if row is None else int(row[0])

    async def unfence(self, *, map_version: int) -> None:
        """Take writes again, if the slots are still here. Repeatable."""
        async with session(self.server) as conn, conn.transaction():
            cursor = await conn.execute(
                "SELECT count(*) FROM shard_slot WHERE slot = ANY(%s)", (self._slots,)
            )
            row = await cursor.fetchone()
            if row is not None and row[0] == len(self._slots):
                await open_slots(conn, self._slots, map_version=map_version)

    async def give_up(self) -> None:
        """Own the slots no more. Repeatable."""
        async with session(self.server) as conn, conn.transaction():
            await give_up_slots(conn, self._slots)

    async def leave_nothing(self) -> None:
        """No slot and no publication of this move. Repeatable.

        Whoever still reads the slot is an earlier owner of the move, killed or cut off.
        """
        async with session(self.server) as conn:
            for _ in range(100):
                await conn.execute(_END_READER, (self._name,))
                await conn.execute(_DROP_SLOT, (self._name,))
                cursor = await conn.execute(
                    "SELECT FROM pg_replication_slots WHERE slot_name = %s", (self._name,)
                )
                if await cursor.fetchone() is None:
                    break
                await asyncio.sleep(0.05)
            else:
                raise Unavailable(f"the slot {self._name} stays in use", code="slot_in_use")
            await conn.execute(
                sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(self._name))
            )

    async def end_readers(self) -> None:
        """End the connection of an earlier owner that still reads the slot."""
        async with session(self.server) as conn:
            await conn.execute(_END_READER, (self._name,))


async def _export(conn: AsyncConnection[Any], name: str) -> Snapshot:
    command = f"CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput EXPORT_SNAPSHOT"
    try:
        row = await (await conn.execute(command.encode())).fetchone()
    except psycopg.Error as error:
        raise lost(Stage.READING, name, str(error)) from error
    if row is None:
        raise Unavailable(f"no slot was made for {name}")
    high, low = str(row[1]).split("/")
    return Snapshot(str(row[2]), int(high, 16) << 32 | int(low, 16))
