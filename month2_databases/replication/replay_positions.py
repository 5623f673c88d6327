"""Follow how far each replica has replayed, by asking it every few milliseconds.

One task and one connection per replica. A position is a lower bound: replay only goes forward, so
an old answer is still true. What can make it false is another server under the same name, and
therefore a position is dropped as soon as a poll fails, when the timeline changes, when the
replica is promoted, and when it is older than `max_age_s` (a loop that stood still).

Whoever needs certainty asks again on the very connection that reads: `has_replayed`. A connection
lives in one incarnation of a server, so what it confirms cannot be undone by a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import psycopg
from psycopg import AsyncConnection

from month2_databases.replication.consistency_token import ReplayPosition
from scalelab.clients.postgres import Database, PostgresSettings, cut_off_after
from scalelab.clock import Clock
from scalelab.errors import ScalelabError

# Without the privilege to see the receiver's row its timeline is null; the control file's is then
# taken, which may lag behind a switch. A timeline that is too old only sends reads to the primary.
_STANDING_SQL = """
SELECT pg_is_in_recovery(),
       (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint,
       coalesce((SELECT received_tli FROM pg_stat_wal_receiver),
                (SELECT timeline_id FROM pg_control_checkpoint())),
       extract(epoch FROM pg_postmaster_start_time())::float8
"""
_HAS_REPLAYED_SQL = (
    "SELECT pg_is_in_recovery() AND pg_last_wal_replay_lsn() - '0/0'::pg_lsn >= %s::numeric"
)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a replica said of itself. asked_at_s: monotonic, before asking.

    started_s: when its postmaster began, which tells one server behind a name from the next.
    """

    position: ReplayPosition
    asked_at_s: float
    started_s: float


class ReplayPositions:
    """Positions of named replicas; an async context manager that owns the polling tasks.

    replicas: name to DSN. interval_s: between polls. deadline_s: of one poll.
    """

    def __init__(
        self,
        replicas: Mapping[str, str],
        *,
        clock: Clock,
        interval_s: float = 0.05,
        deadline_s: float = 0.5,
        max_age_s: float = 1.0,
    ) -> None:
        self._replicas = dict(replicas)
        self._clock = clock
        self._interval_s = interval_s
        self._deadline_s = deadline_s
        self._max_age_s = max_age_s
        self._seen: dict[str, Standing] = {}
        self._timelines: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for name, dsn in self._replicas.items():
            task = asyncio.create_task(self._follow(name, dsn), name=f"replay-position-{name}")
            self._tasks.append(task)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._seen.clear()

    def position(self, replica: str) -> ReplayPosition | None:
        """Where the replica stood when last asked; None if it does not answer as a replica."""
        seen = self.standing(replica)
        return None if seen is None else seen.position

    def standing(self, replica: str) -> Standing | None:
        """The same with the instant of asking and the server that answered."""
        seen = self._seen.get(replica)
        if seen is None or self._clock.monotonic_s() - seen.asked_at_s > self._max_age_s:
            return None
        return seen

    async def _follow(self, name: str, dsn: str) -> None:
        settings = PostgresSettings(dsn, connect_timeout_s=max(1.0, self._deadline_s))
        database = Database(settings, name=f"{name}-position")
        while True:
            try:
                async with database.dedicated() as conn:
                    await self._poll_until_it_fails(name, conn)
            except (ScalelabError, psycopg.Error):
                self._seen.pop(name, None)
            await asyncio.sleep(self._interval_s)

    async def _poll_until_it_fails(self, name: str, conn: AsyncConnection) -> None:
        while True:
            asked_at_s = self._clock.monotonic_s()
            with cut_off_after(conn, self._deadline_s):
                standing = await ask(conn, asked_at_s)
            self._note(name, standing)
            await asyncio.sleep(self._interval_s)

    def _note(self, name: str, standing: Standing | None) -> None:
        if standing is None:
            self._seen.pop(name, None)
            return
        timeline = standing.position.timeline
        known = self._timelines.get(name)
        self._timelines[name] = timeline
        if known is not None and known != timeline:
            self._seen.pop(name, None)
            return
        self._seen[name] = standing


async def ask(conn: AsyncConnection, asked_at_s: float) -> Standing | None:
    """What the server behind `conn` says of itself now; None if it is no replica."""
    cursor = await conn.execute(_STANDING_SQL)
    in_recovery, lsn, timeline, started_s = await cursor.fetchone() or (False, None, None, 0.0)
    if not in_recovery or lsn is None or timeline is None:
        return None
    return Standing(ReplayPosition(timeline, lsn), asked_at_s, started_s)


async def has_replayed(conn: AsyncConnection, lsn: int) -> bool:
    """Whether the replica behind this connection has replayed its log up to `lsn` bytes."""
    cursor = await conn.execute(_HAS_REPLAYED_SQL, (lsn,))
    row = await cursor.fetchone()
    return row is not None and row[0] is True
