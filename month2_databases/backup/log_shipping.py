"""Whether the server's log reaches its archive, and how to have the newest of it there.

PostgreSQL says nothing to anybody when its `archive_command` fails: it keeps the segment and tries
again. So whoever needs the archive asks the view `pg_stat_archiver`, and fails out loud.
"""

from __future__ import annotations

import time
from typing import Any

import psycopg

from scalelab.errors import Unavailable

_ARCHIVER_SQL = """
SELECT current_setting('archive_mode') <> 'off',
       last_failed_time IS NOT NULL
         AND (last_archived_time IS NULL OR last_failed_time > last_archived_time),
       last_failed_wal, coalesce(last_archived_wal, ''),
       (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready')
  FROM pg_stat_archiver
"""
_LOOK_EVERY_S = 0.02


def require_archiving(connection: psycopg.Connection[Any]) -> None:
    """Raise Unavailable if the server does not archive (`wal_archive_off`) or if its newest
    attempt failed (`wal_archive_failing`)."""
    row = connection.execute(_ARCHIVER_SQL).fetchone()
    assert row is not None
    is_on, is_failing, failed_segment, _, waiting = row
    if not is_on:
        raise Unavailable(
            "archive_mode is off: a backup could not be carried to any later time",
            code="wal_archive_off",
        )
    if is_failing:
        raise Unavailable(
            f"the archive refuses log segment {failed_segment}; {waiting} wait on the server's "
            "disk and nothing is lost while it has room. Try: repair the archive (its folder, its "
            "disk, its rights); the server tries again by itself.",
            code="wal_archive_failing",
        )


def ship(connection: psycopg.Connection[Any], *, timeout_s: float = 30.0) -> str:
    """Have everything that committed until now in the archive; the name of its last segment.

    Writes one small commit first, so that a restore to a time before it can see that time pass.
    Raises Unavailable `wal_archive_failing` if the archive refused it until the deadline.
    """
    with connection.transaction():
        connection.execute("SELECT pg_current_xact_id()")
    row = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
    assert row is not None
    segment = str(row[0])
    deadline_s = time.monotonic() + timeout_s
    while True:
        state = connection.execute(_ARCHIVER_SQL).fetchone()
        assert state is not None
        if state[3] >= segment:
            return segment
        if time.monotonic() > deadline_s:
            require_archiving(connection)
            raise Unavailable(
                f"log segment {segment} was not archived within {timeout_s:.0f} s",
                code="wal_archive_slow",
            )
        time.sleep(_LOOK_EVERY_S)
