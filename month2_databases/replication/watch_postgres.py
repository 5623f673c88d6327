"""Ask a primary for its slots and its archiver, and write down whose a slot is.

Privileges: pg_monitor to read; the owner of the table `replication_slot_owner` to write. PostgreSQL
knows when a slot's consumer was last there only from version 17 on, so each look notes it beside
the owner: on the server's own clock, and in the database, so that it outlives whoever looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import AsyncConnection

from month2_databases.replication.archive_watch import Archiver
from month2_databases.replication.slot_watch import Slot

_OWNERS_SQL = """
CREATE TABLE IF NOT EXISTS replication_slot_owner (
    slot_name text PRIMARY KEY,
    owner     text NOT NULL CHECK (owner <> ''),
    since     timestamptz NOT NULL DEFAULT clock_timestamp(),
    active_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
_NAME_OWNER_SQL = """
INSERT INTO replication_slot_owner (slot_name, owner) VALUES (%s, %s)
ON CONFLICT (slot_name) DO UPDATE SET owner = excluded.owner
"""
_NOTE_ACTIVE_SQL = """
UPDATE replication_slot_owner SET active_at = clock_timestamp()
  FROM pg_replication_slots AS slot
 WHERE slot.slot_name = replication_slot_owner.slot_name AND slot.active
"""
_SLOTS_SQL = """
SELECT slot.slot_name, slot.active, coalesce(slot.wal_status, 'reserved'),
       coalesce(pg_current_wal_lsn() - slot.restart_lsn, 0)::bigint,
       (SELECT nullif(setting::bigint, -1) * 1024 * 1024 FROM pg_settings
         WHERE name = 'max_slot_wal_keep_size'),
       CASE WHEN slot.active THEN NULL
            ELSE extract(epoch FROM clock_timestamp() - owned.active_at)::float8 END,
       owned.owner
  FROM pg_replication_slots AS slot LEFT JOIN replication_slot_owner AS owned USING (slot_name)
 WHERE NOT slot.temporary
"""
_OWNED_SQL = "SELECT slot_name, owner FROM replication_slot_owner"
_ARCHIVER_SQL = """
SELECT current_setting('archive_mode') <> 'off',
       extract(epoch FROM clock_timestamp() - last_archived_time)::float8,
       extract(epoch FROM clock_timestamp() - last_failed_time)::float8,
       last_failed_wal,
       (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready')
  FROM pg_stat_archiver
"""


def name_owner(connection: psycopg.Connection[Any], slot: str, owner: str) -> None:
    """Write down whose `slot` is; the table is made if missing. Repeatable, the last one counts."""
    name_owners(connection, {slot: owner})


def name_owners(connection: psycopg.Connection[Any], owners: Mapping[str, str]) -> None:
    """Have the table, and write down whose each slot is; without any, the table alone."""
    connection.execute(_OWNERS_SQL)
    for slot, owner in owners.items():
        connection.execute(_NAME_OWNER_SQL, (slot, owner))


async def read_slots(conn: AsyncConnection) -> tuple[list[Slot], dict[str, str]]:
    """Slots of this primary, and the owners written down, for `slot_watch.judge`."""
    await conn.execute(_NOTE_ACTIVE_SQL)
    rows = await (await conn.execute(_SLOTS_SQL)).fetchall()
    owned = await (await conn.execute(_OWNED_SQL)).fetchall()
    return [Slot(*row[:6]) for row in rows], {slot: owner for slot, owner in owned}


async def read_archiver(conn: AsyncConnection) -> Archiver:
    """The archiver of this server, for `archive_watch.judge`."""
    row = await (await conn.execute(_ARCHIVER_SQL)).fetchone()
    assert row is not None
    return Archiver(*row)
