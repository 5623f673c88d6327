"""Bulk copy: rows of the moving slots by COPY out of a snapshot into the target, one transaction.

Both ends are COPY in binary form and nothing looks into a row, so this runs near the speed of the
two servers. It blocks: run it in a thread. All or nothing: a copy that is cut short, by an error
or by kill -9, leaves no row behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event

import psycopg
from psycopg import sql

from month2_databases.resharding.pace import Pace
from month2_databases.resharding.servers import ShardServer, connect_arguments
from month2_databases.resharding.tables import Layout
from scalelab.clients.postgres_errors import Stage, translate
from scalelab.errors import Unavailable

_CHUNK_BYTES = 65_536


@dataclass(slots=True)
class BulkCopy:
    """One copy. `stop` ends it from another thread. rows: so far."""

    source: ShardServer
    target: ShardServer
    layouts: Sequence[Layout]
    slots: Sequence[int]
    pace: Pace = field(default_factory=Pace)
    stop: Event = field(default_factory=Event)
    rows: int = 0
    _begun_s: float = 0.0

    def run(self, snapshot: str, seal: Callable[[psycopg.Connection], None]) -> int:
        """Copy what `snapshot` shows; `seal` writes into the same transaction. Returns the rows.

        Raises Unavailable when it was stopped.
        """
        self._begun_s = time.monotonic()
        name = f"{self.source.name} or {self.target.name}"
        try:
            with (
                psycopg.connect(self.source.dsn, **connect_arguments("reshard copy")) as out,
                psycopg.connect(self.target.dsn, **connect_arguments("reshard copy")) as into,
            ):
                out.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                out.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
                into.execute("SET LOCAL session_replication_role = replica")
                for layout in self.layouts:
                    self._one(out, into, layout)
                seal(into)
        except psycopg.Error as error:
            raise translate(error, stage=Stage.IN_TRANSACTION, name=name) from error
        return self.rows

    def _one(self, out: psycopg.Connection, into: psycopg.Connection, layout: Layout) -> None:
        with (
            out.cursor().copy(layout.copy_out(self.slots)) as reading,
            into.cursor().copy(layout.copy_in()) as writing,
        ):
            chunk = bytearray()
            for data in reading:  # the header with the first row, then a row each, the trailer
                chunk += data
                self.rows += 1
                if len(chunk) >= _CHUNK_BYTES:
                    writing.write(chunk)
                    chunk = bytearray()
                    self._keep_pace()
            writing.write(chunk)
            self.rows -= 1  # the trailer
        self._keep_pace()

    def _keep_pace(self) -> None:
        pause_s = self.pace.pause_s(self.rows, time.monotonic() - self._begun_s)
        if self.stop.wait(pause_s) if pause_s else self.stop.is_set():
            raise Unavailable("the copy was stopped", code="move_stopped")
