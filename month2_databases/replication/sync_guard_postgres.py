"""The sync guard's driver: reads pg_stat_replication, sets synchronous_standby_names.

One guard is active per primary, whoever holds the advisory lock on its session; the others stand
by and take over when that session ends. ALTER SYSTEM writes no transaction, so it never waits for
the replica it is about to give up.

Privileges: `grants_for(role)` (PostgreSQL 15 and later); before that, a superuser.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import psycopg
from psycopg import AsyncConnection, sql

from month2_databases.replication.sync_guard import (
    Action,
    GuardPolicy,
    GuardState,
    Mode,
    Standby,
    decide,
)
from scalelab.clients.postgres import Database, PostgresSettings, cut_off_after
from scalelab.clock import Clock
from scalelab.errors import InvalidInput, ScalelabError

_LOCK_KEY = 0x53594E43
_RELOAD_STEP_S = 0.01
_OBSERVE_SQL = """
SELECT state = 'streaming',
       coalesce(extract(epoch FROM clock_timestamp() - reply_time), 1e9)::float8,
       coalesce(pg_current_wal_lsn() - flush_lsn, 1e15)::bigint
  FROM pg_stat_replication
 WHERE application_name = ANY(%s)
"""


@dataclass(frozen=True, slots=True)
class SyncModeChanged:
    """Commits of `shard` began or ceased to wait for a replica."""

    shard: str
    mode: Mode


SyncHook = Callable[[SyncModeChanged], None]
"""Called synchronously on the event loop; must not block or raise."""


class SyncGuard:
    """Guards one primary; an async context manager that owns the guarding task.

    shard: its name in events. admin_dsn: of a role with the privileges above. replicas: their
    application names, one at least. interval_s: between looks at the server.
    """

    def __init__(
        self,
        shard: str,
        admin_dsn: str,
        replicas: Sequence[str],
        *,
        clock: Clock,
        policy: GuardPolicy | None = None,
        interval_s: float = 0.25,
        deadline_s: float = 2.0,
        hooks: Sequence[SyncHook] = (),
    ) -> None:
        if not replicas:
            raise InvalidInput(f"{shard} has no replica to wait for", field="replicas")
        self._shard = shard
        self._replicas = list(replicas)
        self._clock = clock
        self._policy = policy or GuardPolicy()
        self._interval_s = interval_s
        self._deadline_s = deadline_s
        self._hooks = tuple(hooks)
        self._database = Database(PostgresSettings(admin_dsn), name=f"{shard}-sync-guard")
        self._mode: Mode | None = None
        self._trouble: str | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"sync-guard-{self._shard}")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    @property
    def mode(self) -> Mode | None:
        """The mode last seen on the server; None while this guard stands by or cannot see it."""
        return self._mode

    @property
    def degraded(self) -> bool:
        """Whether commits are known to wait for no replica now."""
        return self._mode is Mode.DEGRADED

    @property
    def trouble(self) -> str | None:
        """Why the server could not be guarded when last tried; None while all is well."""
        return self._trouble

    async def _run(self) -> None:
        while True:
            try:
                async with self._database.dedicated() as conn:
                    await self._stand_by(conn)
                    await self._guard(conn)
            except (ScalelabError, psycopg.Error) as error:
                self._mode = None
                self._trouble = " ".join(str(error).split())
            await asyncio.sleep(self._interval_s)

    async def _stand_by(self, conn: AsyncConnection) -> None:
        """Return when this session is the one that guards."""
        while True:
            with cut_off_after(conn, self._deadline_s):
                cursor = await conn.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK_KEY,))
                row = await cursor.fetchone()
            if row is not None and row[0] is True:
                return
            await asyncio.sleep(self._interval_s)

    async def _guard(self, conn: AsyncConnection) -> None:
        state = GuardState()
        while True:
            with cut_off_after(conn, self._deadline_s):
                mode = await self._server_mode(conn)
                standbys = await self._standbys(conn)
                now_s = self._clock.monotonic_s()
                state, action = decide(
                    state, self._policy, mode=mode, standbys=standbys, now_s=now_s
                )
                mode = await self._carry_out(conn, action, mode)
            self._report(mode)
            await asyncio.sleep(self._interval_s)

    async def _server_mode(self, conn: AsyncConnection) -> Mode:
        cursor = await conn.execute("SELECT current_setting('synchronous_standby_names')")
        row = await cursor.fetchone()
        return Mode.SYNCHRONOUS if row is not None and row[0] else Mode.DEGRADED

    async def _standbys(self, conn: AsyncConnection) -> tuple[Standby, ...]:
        cursor = await conn.execute(_OBSERVE_SQL, (self._replicas,))
        return tuple(Standby(*row) for row in await cursor.fetchall())

    async def _carry_out(self, conn: AsyncConnection, action: Action, mode: Mode) -> Mode:
        if action is Action.NOTHING:
            return mode
        names = _quorum(self._replicas) if action is Action.REQUIRE else ""
        statement = sql.SQL("ALTER SYSTEM SET synchronous_standby_names = {}")
        await conn.execute(statement.format(sql.Literal(names)))
        await conn.execute("SELECT pg_reload_conf()")
        wanted = Mode.SYNCHRONOUS if action is Action.REQUIRE else Mode.DEGRADED
        # The reload reaches this session a moment later; the caller's deadline bounds the wait.
        while True:
            if await self._server_mode(conn) is wanted:
                return wanted
            await asyncio.sleep(_RELOAD_STEP_S)

    def _report(self, mode: Mode) -> None:
        self._trouble = None
        if mode is self._mode:
            return
        self._mode = mode
        for hook in self._hooks:
            hook(SyncModeChanged(self._shard, mode))


def grants_for(role: str) -> tuple[str, ...]:
    """SQL a superuser runs once so that `role` can guard this server (PostgreSQL 15 and later).

    In the database the guards connect to: rights on functions, and the advisory lock that makes
    one guard the active one, belong to a database.
    """
    who = '"' + role.replace('"', '""') + '"'
    return (
        f"GRANT ALTER SYSTEM ON PARAMETER synchronous_standby_names TO {who}",
        f"GRANT EXECUTE ON FUNCTION pg_reload_conf() TO {who}",
        f"GRANT pg_monitor TO {who}",
    )


def _quorum(names: Sequence[str]) -> str:
    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    return f"ANY 1 ({quoted})"
