"""A restored server, asked whether it is open and how far it got."""

from __future__ import annotations

import time
from typing import Any

import psycopg

from month2_databases.backup.recovery_target import Reached, check_reached
from month2_databases.backup.tool import Prepared
from month2_databases.backup.wal_segments import lsn_of
from scalelab.errors import Unavailable

_STATE_SQL = """
SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn()::text, pg_last_xact_replay_timestamp()
"""
_LOOK_EVERY_S = 0.05


def confirm(dsn: str, prepared: Prepared, *, timeout_s: float = 120.0) -> Reached:
    """Wait until the copy has ended its recovery, and check that it got where it should.

    Raises Unavailable `restore_not_open` at the deadline or if the copy died: PostgreSQL ends
    itself when the log ends before a target. Raises CorruptData `restore_stopped_short`.
    """
    deadline_s = time.monotonic() + timeout_s
    problem = "it is still in recovery"
    while time.monotonic() < deadline_s:
        try:
            reached = _ask(dsn)
        except psycopg.OperationalError as error:
            reached, problem = None, " ".join(str(error).split())
        if reached is not None:
            check_reached(reached, prepared.target, at_least_lsn=prepared.at_least_lsn)
            return reached
        time.sleep(_LOOK_EVERY_S)
    raise Unavailable(
        f"the copy in {prepared.data} did not open within {timeout_s:.0f} s: {problem}. Its log "
        "says why; a target that the archived log does not reach ends it.",
        code="restore_not_open",
    )


def _ask(dsn: str) -> Reached | None:
    with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as connection:
        row: tuple[Any, ...] | None = connection.execute(_STATE_SQL).fetchone()
    if row is None or row[0] or row[1] is None:
        return None
    return Reached(lsn_of(row[1]), row[2])
