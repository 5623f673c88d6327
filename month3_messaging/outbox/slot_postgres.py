"""The relay's replication slot on its server: make it, look at it, give it up.

Privileges: the role owns the outbox table, may create in its database, and has REPLICATION.

Traps that shape it
    A publication must be older than the slot that reads it, or the reader fails on the first row.
    Making a slot waits for every transaction that is open on the server at that moment: it is
    bounded here, and whoever waits polls the table meanwhile.
    The server knows no owner of a slot and, before version 17, not when it was last read: both are
    written into a table beside the outbox.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection, sql
from psycopg import errors as sql_errors

from month3_messaging.outbox.slot import SlotState
from scalelab.errors import Unavailable

_TABLE = """
CREATE TABLE IF NOT EXISTS outbox_slot (
    slot_name    text PRIMARY KEY,
    owner        text        NOT NULL,
    made_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    confirmed_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
_OWN = """
INSERT INTO outbox_slot (slot_name, owner) VALUES (%s, %s)
ON CONFLICT (slot_name) DO UPDATE
SET owner = excluded.owner, made_at = clock_timestamp(), confirmed_at = clock_timestamp()
"""
_CONFIRMED = "UPDATE outbox_slot SET confirmed_at = clock_timestamp() WHERE slot_name = %s"
_LOOK = """
SELECT owned.owner, slot.active, coalesce(slot.wal_status, 'lost'),
       coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), slot.restart_lsn), 0)::bigint,
       extract(epoch FROM clock_timestamp() - owned.confirmed_at)::float8
  FROM outbox_slot AS owned JOIN pg_replication_slots AS slot USING (slot_name)
 WHERE slot_name = %s
"""
_IS_THERE = "SELECT FROM pg_replication_slots WHERE slot_name = %s"
_END_READER = """
SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s AND active
"""
_DROP = """
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
WHERE slot_name = %s AND NOT active
"""
_GONE_TRIES = 100


@dataclass(frozen=True, slots=True)
class SlotPlace:
    """Where a relay keeps its slot.

    dsn: of the same database as the relay's, not through a pooler. name: of slot and publication,
    one per database of a server. owner: whom to tell when it is left behind.
    """

    dsn: str
    name: str
    owner: str


async def make_slot(conn: AsyncConnection[Any], place: SlotPlace, *, wait_s: float) -> bool:
    """Have a publication, a slot and an owner; whether the slot is new. Repeatable.

    wait_s: at most so long for transactions that are open now.
    Raises Unavailable code `slot_not_made` with the server's reason: no privilege, no room for
    another slot, `wal_level` below logical, transactions that stay open.
    """
    before = await _statement_timeout(conn, f"{round(wait_s * 1000)}ms")
    try:
        await conn.execute(_TABLE)
        cursor = await conn.execute("SELECT FROM pg_publication WHERE pubname = %s", (place.name,))
        if await cursor.fetchone() is None:
            statement = "CREATE PUBLICATION {} FOR TABLE outbox WITH (publish = 'insert')"
            await conn.execute(sql.SQL(statement).format(sql.Identifier(place.name)))
        if await (await conn.execute(_IS_THERE, (place.name,))).fetchone() is not None:
            return False
        await conn.execute(
            "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (place.name,)
        )
        await conn.execute(_OWN, (place.name, place.owner))
    except (
        sql_errors.InsufficientPrivilege,
        sql_errors.ConfigurationLimitExceeded,
        sql_errors.ObjectNotInPrerequisiteState,
        sql_errors.FeatureNotSupported,
        sql_errors.QueryCanceled,
    ) as error:
        raise Unavailable(f"no slot {place.name}: {error}", code="slot_not_made") from error
    finally:
        if not conn.broken:
            await _statement_timeout(conn, before)
    return True


async def _statement_timeout(conn: AsyncConnection[Any], setting: str) -> str:
    """Set it for this session; returns what it was."""
    cursor = await conn.execute(
        "SELECT current_setting('statement_timeout'), set_config('statement_timeout', %s, false)",
        (setting,),
    )
    row = await cursor.fetchone()
    return str(row[0]) if row else "0"


async def look_at_slot(conn: AsyncConnection[Any], place: SlotPlace) -> SlotState | None:
    """The slot as it is now, or None where there is none."""
    try:
        row = await (await conn.execute(_LOOK, (place.name,))).fetchone()
    except sql_errors.UndefinedTable:
        return None
    return None if row is None else SlotState(place.name, *row)


async def note_confirmed(conn: AsyncConnection[Any], place: SlotPlace) -> None:
    """Write down that the slot was confirmed just now."""
    await conn.execute(_CONFIRMED, (place.name,))


async def drop_slot(conn: AsyncConnection[Any], place: SlotPlace) -> None:
    """Give the slot up, ending whoever reads it; the publication stays. Repeatable.

    Raises Unavailable code `slot_in_use` where somebody takes it again and again.
    """
    for _ in range(_GONE_TRIES):
        await conn.execute(_END_READER, (place.name,))
        # Taken or dropped by another between the look and the act: look again.
        with suppress(sql_errors.ObjectInUse, sql_errors.UndefinedObject):
            await conn.execute(_DROP, (place.name,))
        if await (await conn.execute(_IS_THERE, (place.name,))).fetchone() is None:
            return
        await asyncio.sleep(0.05)
    raise Unavailable(f"the slot {place.name} stays in use", code="slot_in_use")
