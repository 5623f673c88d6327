"""Follow where the primary's log ends, by asking it every few milliseconds.

One task and one connection. What it learns feeds the LSN clock, which bounds the age of replicas'
answers; and lag in bytes. When the primary does not answer nothing is added, so bounds grow.
"""

from __future__ import annotations

import asyncio
from typing import Self

import psycopg
from psycopg import AsyncConnection

from month2_databases.replication.consistency_token import ReplayPosition
from month2_databases.replication.lsn_clock import LsnClock, observe, stale_bound_s
from scalelab.clients.postgres import Database, PostgresSettings, cut_off_after
from scalelab.clock import Clock
from scalelab.errors import ScalelabError

# On a primary where the log ends, on a replica what it has replayed: whatever a read just showed
# is no newer.
_SHOWN_SQL = """
SELECT CASE WHEN pg_is_in_recovery() THEN (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint
            ELSE (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint END,
       CASE WHEN pg_is_in_recovery()
            THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver),
                          (SELECT timeline_id FROM pg_control_checkpoint()))
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint
       END,
       pg_is_in_recovery()
"""


async def shown(conn: AsyncConnection) -> tuple[ReplayPosition, bool]:
    """A position that everything read on `conn` so far is no newer than, and: is it a replica?"""
    cursor = await conn.execute(_SHOWN_SQL)
    row = await cursor.fetchone()
    if row is None or row[0] is None:
        raise psycopg.OperationalError("the server does not say where it stands")
    return ReplayPosition(int(row[1]), int(row[0])), bool(row[2])


class PrimaryLog:
    """The end of one primary's log over time; an async context manager that owns the polling."""

    def __init__(
        self,
        name: str,
        dsn: str,
        *,
        clock: Clock,
        interval_s: float = 0.05,
        deadline_s: float = 0.5,
    ) -> None:
        self._name = name
        self._clock = clock
        self._interval_s = interval_s
        self._deadline_s = deadline_s
        settings = PostgresSettings(dsn, connect_timeout_s=max(1.0, deadline_s))
        self._database = Database(settings, name=f"{name}-log-end")
        self._log = LsnClock()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow(), name=f"log-end-{self._name}")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def stale_s(self, position: ReplayPosition) -> float:
        """Seconds that an answer from `position` can be old at most; inf where nothing is known."""
        return stale_bound_s(
            self._log,
            timeline=position.timeline,
            replayed_lsn=position.lsn,
            now_s=self._clock.monotonic_s(),
        )

    def lag_bytes(self, position: ReplayPosition) -> int | None:
        """Bytes of log that `position` lacks; None where nothing is known."""
        end_lsn = self._log.end_lsn(position.timeline)
        return None if end_lsn is None else max(0, end_lsn - position.lsn)

    async def _follow(self) -> None:
        while True:
            try:
                async with self._database.dedicated() as conn:
                    while True:
                        await self._ask(conn)
                        await asyncio.sleep(self._interval_s)
            except (ScalelabError, psycopg.Error):
                await asyncio.sleep(self._interval_s)

    async def _ask(self, conn: AsyncConnection) -> None:
        asked_at_s = self._clock.monotonic_s()
        with cut_off_after(conn, self._deadline_s):
            position, is_replica = await shown(conn)
        if not is_replica:  # a primary that was made a replica of another is none any more
            self._log = observe(
                self._log, timeline=position.timeline, lsn=position.lsn, asked_at_s=asked_at_s
            )
