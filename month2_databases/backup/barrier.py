"""One point of several shards: no transaction between shards lies across it.

Theory of operation
    A writer that changes several shards holds a shared advisory lock on each of them, taken in the
    order of their names before its first change, until its last branch has committed. The barrier
    takes the same lock exclusively on every shard, in the same order; when it has them all, no such
    writer is under way. Then it writes a restore point of one name into each log, and lets go.
    Restored to that name, every transaction between shards is there on all of them or on none.
    Writers of a single shard are not held up at all.

Invariants (tests cite them)
    I1  While the point is written, no branch of a transaction between shards is open.
    I2  No deadlock: all take the locks in one order. The barrier gives up at its deadline.

A lock of a transaction moves with it into PREPARE and is held until COMMIT PREPARED, so two-phase
commits need nothing else. Source: Chandy, Lamport 1985, "Distributed Snapshots"; differs in:
writers are held up for a moment instead of messages being recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import psycopg

from month2_databases.backup.wal_segments import lsn_of
from scalelab.errors import InvalidInput, Overloaded

BARRIER_LOCK = 0x5CA1AB1E
_SHARED_SQL = "SELECT pg_advisory_xact_lock_shared(%s)"


def join_barrier(connection: psycopg.Connection[Any]) -> None:
    """Say that this transaction is one branch of several. Call it on every shard, in the order of
    the shards' names, before the first change; it holds until COMMIT (PREPARED) or ROLLBACK."""
    connection.execute(_SHARED_SQL, (BARRIER_LOCK,))


def restore_point(
    shards: Mapping[str, str], name: str, *, timeout_s: float = 10.0
) -> dict[str, int]:
    """Write the restore point `name` on all shards at one consistent moment; its LSN on each.

    shards: DSNs of superusers by shard name. Raises Overloaded `barrier_busy` when a writer held
    its lock beyond the deadline; then no shard has a point of that name.
    """
    if not shards or not name or len(name) > 63:
        raise InvalidInput(
            "a restore point has a name of 1 to 63 letters, and shards", field="name"
        )
    with ExitStack() as stack:
        held: dict[str, psycopg.Connection[Any]] = {}
        for shard in sorted(shards):
            connection = stack.enter_context(psycopg.connect(shards[shard], autocommit=True))
            wait = f"{int(timeout_s * 1000)}ms"
            connection.execute("SELECT set_config('lock_timeout', %s, false)", (wait,))
            try:
                connection.execute("SELECT pg_advisory_lock(%s)", (BARRIER_LOCK,))
            except psycopg.errors.LockNotAvailable as error:
                raise Overloaded(
                    f"a transaction between shards is open on {shard} for more than "
                    f"{timeout_s:.0f} s; no restore point was written. Try again later.",
                    code="barrier_busy",
                ) from error
            held[shard] = connection
        return {shard: _write(connection, name) for shard, connection in held.items()}


def _write(connection: psycopg.Connection[Any], name: str) -> int:
    row = connection.execute("SELECT pg_create_restore_point(%s)::text", (name,)).fetchone()
    assert row is not None
    return lsn_of(row[0])
