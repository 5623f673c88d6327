"""The drill: drop a table on a running primary under writes, restore it elsewhere, compare.

A backup that was never restored is a hope. The drill takes the hash of the table while it holds
the lock under which it drops it, so the state just before is known exactly, although writers never
stopped before; the copy, restored to the moment in between, must have the same hash.

RPO   rows that a writer was told are committed and that the copy lacks, and the seconds between
      the moment aimed at and the last commit that was recovered.
RTO   seconds from the decision to restore until the copy was open and compared.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from month2_databases.backup.log_shipping import ship
from month2_databases.backup.recovery_target import Target
from month2_databases.backup.restored_server import confirm
from month2_databases.backup.tool import BackupTool, Prepared
from scalelab.errors import Unavailable

StartCopy = Callable[[Prepared], AbstractContextManager[str]]
"""Starts a server on a prepared folder; gives the DSN of its superuser, ends the server after."""

_TABLE_SQL: LiteralString = """
CREATE TABLE IF NOT EXISTS drill_order (
    id bigint PRIMARY KEY, placed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    note text NOT NULL)
"""
_FILL_SQL: LiteralString = """
INSERT INTO drill_order (id, note)
SELECT -n, repeat(md5(n::text), 8) FROM generate_series(1, %s) AS n ON CONFLICT DO NOTHING
"""
_INSERT_SQL: LiteralString = (
    "INSERT INTO drill_order (id, note) VALUES (%s, 'written in the drill')"
)
_HASH_SQL: LiteralString = """
SELECT count(*), coalesce(md5(string_agg(md5(t::text), '' ORDER BY id)), '') FROM drill_order AS t
"""


@dataclass(frozen=True, slots=True)
class Contents:
    """A table's rows and the hash of them all."""

    rows: int
    hash: str


@dataclass(frozen=True, slots=True)
class DrillReport:
    """One drill. at: the moment restored to. acknowledged: rows writers were told of during it.

    lost_rows: of those, missing in the copy. rpo_s: from `at` back to the last recovered commit.
    """

    tool: str
    at: datetime
    backup: str
    backup_bytes: int
    rows: int
    acknowledged: int
    lost_rows: int
    matches: bool
    rpo_s: float
    rto_s: float

    @property
    def passed(self) -> bool:
        """The copy is the table as it was, with every row that was acknowledged."""
        return self.matches and self.lost_rows == 0


class Writer(threading.Thread):
    """Inserts rows of growing ids until the table is gone or it is told to stop."""

    def __init__(self, dsn: str) -> None:
        super().__init__(name="drill writer", daemon=True)
        self._dsn = dsn
        self._ending = threading.Event()
        self.acknowledged: list[int] = []
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            with psycopg.connect(self._dsn, autocommit=True) as connection:
                first = time.time_ns()
                while not self._ending.is_set():
                    number = first + len(self.acknowledged)
                    connection.execute(_INSERT_SQL, (number,))
                    self.acknowledged.append(number)
        except psycopg.errors.UndefinedTable:
            pass  # dropped, as planned
        except psycopg.Error as error:
            self.failure = error

    def wait_for(self, rows: int, *, timeout_s: float = 60.0) -> None:
        """Return when that many rows are acknowledged. Raises Unavailable at the deadline."""
        deadline_s = time.monotonic() + timeout_s
        while len(self.acknowledged) < rows:
            if time.monotonic() > deadline_s or not self.is_alive():
                raise Unavailable(f"the writer stands at {len(self.acknowledged)}: {self.failure}")
            time.sleep(0.005)

    def finish(self) -> None:
        """Stop, and wait until it has."""
        self._ending.set()
        self.join(30.0)


def drill(
    tool: BackupTool,
    dsn: str,
    into: Path,
    start_copy: StartCopy,
    *,
    rows: int = 1000,
    written: int = 200,
) -> DrillReport:
    """Run one drill on the primary at `dsn` (superuser of the database that gets the table).

    rows: in the table at the backup. written: rows to be written after it, at least. The table
    `drill_order` is dropped; nothing else of the primary is touched.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_TABLE_SQL)
        connection.execute(_FILL_SQL, (rows,))
        backup = tool.backup()
        writer = Writer(dsn)
        writer.start()
        try:
            writer.wait_for(written)
            at, before = _drop(connection)
        finally:
            writer.finish()
        began_s = time.monotonic()
        ship(connection)
    prepared = tool.restore(Target(time=at), into)
    with start_copy(prepared) as copy:
        reached = confirm(copy, prepared)
        with psycopg.connect(copy, autocommit=True) as connection:
            after = contents(connection)
            lost = _missing(connection, writer.acknowledged)
        rto_s = time.monotonic() - began_s
    last = reached.commit or backup.stopped_at
    return DrillReport(
        tool=type(tool).__name__,
        at=at,
        backup=backup.id,
        backup_bytes=backup.bytes,
        rows=before.rows,
        acknowledged=len(writer.acknowledged),
        lost_rows=lost,
        matches=before == after,
        rpo_s=max(0.0, (at - last).total_seconds()),
        rto_s=rto_s,
    )


def contents(connection: psycopg.Connection[Any]) -> Contents:
    """The drill's table as it is."""
    row = connection.execute(_HASH_SQL).fetchone()
    assert row is not None
    return Contents(*row)


def _drop(connection: psycopg.Connection[Any]) -> tuple[datetime, Contents]:
    """Hash, moment and drop under one lock: every commit on the table lies before the moment."""
    with connection.transaction():
        connection.execute("LOCK TABLE drill_order IN ACCESS EXCLUSIVE MODE")
        before = contents(connection)
        row = connection.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        connection.execute("DROP TABLE drill_order")
    return row[0], before


def _missing(connection: psycopg.Connection[Any], acknowledged: list[int]) -> int:
    row = connection.execute(
        "SELECT count(*) FROM unnest(%s::bigint[]) AS told(id)"
        " WHERE NOT EXISTS (SELECT FROM drill_order WHERE drill_order.id = told.id)",
        (acknowledged,),
    ).fetchone()
    assert row is not None
    return int(row[0])
