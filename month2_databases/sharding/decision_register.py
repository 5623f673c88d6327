"""The register of decisions in one PostgreSQL database: the first word on a transaction stands.

`record` is one statement: insert unless it is there, and read what is there. A commit is decided at
the instant that statement commits, so this database should have a synchronous replica: if its disk
is lost, so is the knowledge of how transactions in doubt should end.

Records of aborts are written by recoveries only. `prune` throws old ones away; a coordinator slower
than that could then still record a commit of what was rolled back, so `record` refuses to commit a
transaction whose id (a UUIDv7: it carries the time) is older than `max_age_s`.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg

from scalelab.clients.postgres import Database
from scalelab.commit import Outcome
from scalelab.errors import CorruptData

SCHEMA = """
CREATE TABLE IF NOT EXISTS commit_decision (
    tx uuid PRIMARY KEY,
    outcome text NOT NULL CHECK (outcome IN ('commit', 'abort')),
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""

_RECORD = """
WITH mine AS (
    INSERT INTO commit_decision (tx, outcome)
    SELECT %(tx)s, CASE WHEN extract(epoch FROM clock_timestamp()) - %(begun_s)s > %(max_age_s)s
                        THEN 'abort' ELSE %(wanted)s END
    ON CONFLICT (tx) DO NOTHING
    RETURNING outcome
)
SELECT outcome FROM mine
"""


class DecisionRegister:
    """Decisions in the table of SCHEMA. max_age_s: no commit is recorded that long after begin."""

    def __init__(self, database: Database, *, max_age_s: float = 300.0) -> None:
        self._database = database
        self._max_age_s = max_age_s

    async def record(self, tx: UUID, wanted: Outcome) -> Outcome:
        """Write `wanted` unless the transaction is known; returns what holds. Idempotent.

        Raises Unavailable (nothing written) or OutcomeUnknown (perhaps written: ask again).
        """
        values = {
            "tx": tx,
            "wanted": wanted.value,
            "begun_s": (tx.int >> 80) / 1000,
            "max_age_s": self._max_age_s,
        }
        async with self._database.autocommit() as conn:
            row = await (await conn.execute(_RECORD, values)).fetchone()
            if row is None:  # it was there, and is visible to a statement that begins now
                row = await _known(conn, tx)
        if row is None:
            raise CorruptData(f"the decision on {tx} vanished while it was read")
        return Outcome(row[0])

    async def read(self, tx: UUID) -> Outcome | None:
        """What holds, or None if nothing was recorded."""
        async with self._database.autocommit(read_only=True) as conn:
            row = await _known(conn, tx)
        return None if row is None else Outcome(row[0])

    async def forget(self, tx: UUID) -> None:
        """Drop the record of a commit that every participant has carried out."""
        async with self._database.autocommit() as conn:
            await conn.execute("DELETE FROM commit_decision WHERE tx = %s", (tx,))

    async def prune(self) -> int:
        """Drop aborts older than twice `max_age_s`; returns how many. Commits stay."""
        async with self._database.autocommit() as conn:
            cursor = await conn.execute(
                "DELETE FROM commit_decision WHERE outcome = 'abort'"
                " AND decided_at < clock_timestamp() - make_interval(secs => %s)",
                (2 * self._max_age_s,),
            )
        return cursor.rowcount


async def _known(conn: psycopg.AsyncConnection, tx: UUID) -> tuple[Any, ...] | None:
    cursor = await conn.execute("SELECT outcome FROM commit_decision WHERE tx = %s", (tx,))
    return await cursor.fetchone()
