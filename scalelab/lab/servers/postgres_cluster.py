"""A primary and its streaming replicas as one thing: started, made synchronous, held back, broken.

Each replica is a `pg_basebackup` of the primary with a physical slot of its own, so the primary
keeps what it has not taken yet, up to `max_slot_wal_keep_size`. With `archive` the primary hands
each full segment to a folder as well; the command copies aside, syncs, and only then renames, and
accepts a segment that is there already only if it is the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

import psycopg
from psycopg import sql

from scalelab.errors import InvalidInput
from scalelab.lab.servers.account import hand_over, server_account
from scalelab.lab.servers.errors import ServerFailed
from scalelab.lab.servers.postgres import Postgres
from scalelab.lab.servers.postgres_config import archive_settings

if TYPE_CHECKING:
    from scalelab.lab.runtime import Runtime

_PAUSED_WITHIN_S = 20.0
_LOOK_EVERY_S = 0.01


class PostgresCluster:
    """`name` is the primary, `name-r1`, `name-r2`, … are its replicas, as servers of a runtime.

    settings: of all servers. archive: keep an archive of the log. ports: fixed ones by server name.
    """

    def __init__(
        self,
        name: str,
        *,
        replicas: int = 2,
        settings: Mapping[str, str] | None = None,
        archive: bool = False,
        ports: Mapping[str, int] | None = None,
    ) -> None:
        if not 0 <= replicas <= 8:
            raise InvalidInput(f"{replicas} replicas; it can be 0 to 8", field="replicas")
        ports = ports or {}
        self.name = name
        self.primary = Postgres(name, ports.get(name), settings=settings)
        names = [f"{name}-r{number}" for number in range(1, replicas + 1)]
        self.replicas = [self.primary.add_replica(one, ports.get(one)) for one in names]
        self._wants_archive = archive
        self.archive: Path | None = None

    def start(self, runtime: Runtime) -> None:
        """Start the primary, then make and start the replicas; returns when all answer."""
        if self._wants_archive:
            self.archive = runtime.data / f"{self.name}-archive"
            self.archive.mkdir(parents=True, exist_ok=True, mode=0o700)
            hand_over(server_account(), self.archive)
            for server in (self.primary, *self.replicas):
                server.settings |= archive_settings(self.archive)
        runtime.start(self.primary, *self.replicas)

    def replica(self, number: int) -> Postgres:
        """Replica 1, 2, …; InvalidInput if there is none."""
        if not 1 <= number <= len(self.replicas):
            raise InvalidInput(f"{self.name} has no replica {number}", field="number")
        return self.replicas[number - 1]

    def set_synchronous(self, *, wanted: bool) -> None:
        """Quorum-synchronous: a commit waits for any one replica. Or asynchronous again."""
        names = [replica.application_name for replica in self.replicas] if wanted else []
        self.primary.set_synchronous(names)

    def delay_replay(self, number: int, delay_ms: int) -> None:
        """Have a replica replay commits that late, 0 for at once; it goes on receiving them."""
        statement = sql.SQL("ALTER SYSTEM SET recovery_min_apply_delay = {}")
        with psycopg.connect(self.replica(number).superuser_dsn(), autocommit=True) as connection:
            connection.execute(statement.format(sql.Literal(f"{delay_ms}ms")))
            connection.execute("SELECT pg_reload_conf()")

    def pause_replay(self, number: int) -> None:
        """Have a replica replay nothing, and return once it stands still."""
        with psycopg.connect(self.replica(number).superuser_dsn(), autocommit=True) as connection:
            connection.execute("SELECT pg_wal_replay_pause()")
            deadline_s = time.monotonic() + _PAUSED_WITHIN_S
            while time.monotonic() < deadline_s:
                row = connection.execute("SELECT pg_get_wal_replay_pause_state()").fetchone()
                if row is not None and row[0] == "paused":
                    return
                time.sleep(_LOOK_EVERY_S)
        raise ServerFailed(f"{self.replica(number).name} goes on replaying after pause was asked")

    def resume_replay(self, number: int) -> None:
        """Undo `pause_replay`. Repeatable."""
        with psycopg.connect(self.replica(number).superuser_dsn(), autocommit=True) as connection:
            connection.execute("SELECT pg_wal_replay_resume()")

    def execute(self, statement: LiteralString, database: str = "postgres") -> object:
        """Run a statement on the primary as superuser; the first column of the first row."""
        with psycopg.connect(self.primary.superuser_dsn(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None
