"""Slot guard: a shard itself knows which slots it owns, and refuses writes to all others.

Theory of operation
    Every shard keeps a row per slot it owns: state (owned or fenced) and the map version that
    made it so. A write takes the slot's lock in shared mode until it commits, and only then looks
    at the row. Whoever fences a slot takes the same lock alone: it waits for writes under way, and
    a write that waited for it sees the fence. No write can fall between the two.

    The lock is an advisory one, held in memory: locking the row would write to it for every write
    of the slot. Row and lock live in the shard, so they need no clock and no third party.

Two ways in, for they see different things
    `admit`  asked by the router at the beginning of a transaction, with the version of its map:
             finds a stale map before any work is done.
    trigger  on every guarded table, for each row: finds whoever did not come through the router
             (a relay, a person) or writes another slot than the one admitted.

Guarantees
    G1  After `fence` has returned, no write to these slots commits here until `open_slots`.
    G2  A refusal is an error inside the caller's transaction: nothing of it stays.
    G3  No row of a guarded table changes its slot.
    G4  A map older than the one that brought the slot here is refused, even where the slot is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql

from month2_databases.sharding.slot_states import SlotState
from scalelab.errors import Conflict, InvalidInput, Unavailable
from scalelab.hashing import SLOT_SETTING

NOT_HERE = "SL001"
FENCED = "SL002"
TOO_OLD = "SL003"

_LOCK = "1296"
LOCK_CLASS = int(_LOCK)
"""First key of the advisory locks; the second is the slot."""

GUARD_DDL = f"""
CREATE TABLE IF NOT EXISTS shard_slot (
    slot    smallint PRIMARY KEY CHECK (slot BETWEEN 0 AND 255),
    state   text     NOT NULL CHECK (state IN ('owned', 'fenced')),
    version bigint   NOT NULL CHECK (version >= 1)
);
CREATE OR REPLACE FUNCTION shard_slot_admit(wanted integer, map_version bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    here record;
BEGIN
    PERFORM pg_advisory_xact_lock_shared({_LOCK}, wanted);
    IF current_setting('transaction_isolation') = 'read committed' THEN
        SELECT state, version INTO here FROM shard_slot WHERE slot = wanted;
    ELSE  -- an older snapshot: the row lock fails where the row has changed since
        SELECT state, version INTO here FROM shard_slot WHERE slot = wanted FOR SHARE;
    END IF;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'slot % is not on this shard', wanted USING ERRCODE = '{NOT_HERE}';
    ELSIF here.state = 'fenced' THEN
        RAISE EXCEPTION 'slot % is about to leave this shard', wanted USING ERRCODE = '{FENCED}';
    ELSIF map_version < here.version THEN
        RAISE EXCEPTION 'slot % came here with map %, the caller has map %', wanted, here.version,
            map_version USING ERRCODE = '{TOO_OLD}';
    END IF;
END $$;
"""  # noqa: S608 - constants
"""The guard's table and functions, for the migrations of every shard."""

_TRIGGER = """
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM shard_slot_admit(OLD.{column}, 9223372036854775807);
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    IF TG_OP = 'INSERT' THEN
        PERFORM shard_slot_admit(NEW.{column}, 9223372036854775807);
    ELSIF NEW.{column} IS DISTINCT FROM OLD.{column} THEN
        RAISE EXCEPTION 'a row has its slot for ever' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER shard_slot_guard BEFORE INSERT OR UPDATE OR DELETE ON {table}
FOR EACH ROW EXECUTE FUNCTION {function}();
"""
_ALONE = "SELECT pg_advisory_xact_lock(%s, slot) FROM unnest(%s::int[]) AS wanted (slot)"


class StaleShardMap(Unavailable):
    """The shard does not own the slot, or got it with a newer map than the caller's. Not done."""

    code = "stale_shard_map"


class SlotFenced(Unavailable):
    """The slot changes its server just now and takes no writes for a moment. Not done."""

    code = "slot_fenced"


def refusal_of(error: BaseException | None) -> StaleShardMap | SlotFenced | None:
    """The guard's refusal inside a driver error or one translated from it; None for others."""
    cause = error if isinstance(error, psycopg.Error) else getattr(error, "__cause__", None)
    if not isinstance(cause, psycopg.Error):
        return None
    said = cause.diag.message_primary or str(cause)
    if cause.sqlstate in (NOT_HERE, TOO_OLD):
        return StaleShardMap(said, retry_after_s=0.05)
    if cause.sqlstate == FENCED:
        return SlotFenced(said, retry_after_s=0.25)
    return None


async def guard_table(conn: AsyncConnection[Any], table: str, column: str = "slot") -> None:
    """Have the trigger on `table`, whose `column` holds the slot. Repeatable; needs its owner."""
    function = sql.Identifier(f"shard_slot_guard_{table}"[:63])
    statement = sql.SQL(_TRIGGER).format(
        function=function, table=sql.Identifier(table), column=sql.Identifier(column)
    )
    await conn.execute(statement)


async def admit(conn: AsyncConnection[Any], slot: int, *, map_version: int) -> None:
    """Hold the slot open until the transaction on `conn` ends, or raise what `refusal_of` reads.

    The transaction's SLOT_SETTING then names the slot.
    """
    await conn.execute(
        "SELECT shard_slot_admit(%s, %s), set_config(%s, %s, true)",
        (slot, map_version, SLOT_SETTING, str(slot)),
    )


async def owned_slots(conn: AsyncConnection[Any]) -> dict[int, tuple[SlotState, int]]:
    """State and version of every slot that this shard says is its own."""
    cursor = await conn.execute("SELECT slot, state, version FROM shard_slot ORDER BY slot")
    return {row[0]: (SlotState(row[1]), row[2]) for row in await cursor.fetchall()}


async def open_slots(
    conn: AsyncConnection[Any], slots: Collection[int], *, map_version: int
) -> None:
    """Own these slots as of `map_version` and take their writes. Inside a transaction; repeatable.

    A newer version that is there already stays.
    """
    await _lock_alone(conn, slots)
    await conn.execute(
        "INSERT INTO shard_slot AS s SELECT slot, 'owned', %s FROM unnest(%s::int[]) AS w (slot)"
        " ON CONFLICT (slot) DO UPDATE SET state = 'owned', version = excluded.version"
        " WHERE s.version <= excluded.version",
        (map_version, sorted(slots)),
    )


async def fence_slots(
    conn: AsyncConnection[Any], slots: Collection[int], *, map_version: int
) -> None:
    """Take no more writes to these slots (G1). Inside a transaction whose lock_timeout bounds the
    wait for writes under way. Repeatable. Raises StaleShardMap where one is not owned here."""
    await _lock_alone(conn, slots)
    cursor = await conn.execute(
        "UPDATE shard_slot SET state = 'fenced', version = greatest(version, %s)"
        " WHERE slot = ANY(%s)",
        (map_version, sorted(slots)),
    )
    if cursor.rowcount != len(set(slots)):
        raise StaleShardMap(f"not all of {sorted(slots)} are on this shard")


async def give_up_slots(conn: AsyncConnection[Any], slots: Collection[int]) -> None:
    """Forget these slots: every write to them is refused as stale. Inside a transaction."""
    await _lock_alone(conn, slots)
    await conn.execute("DELETE FROM shard_slot WHERE slot = ANY(%s)", (sorted(slots),))


async def refuse_owned(conn: AsyncConnection[Any], slots: Collection[int]) -> None:
    """Conflict code `slot_owned` unless this shard owns none of these slots, and will not until
    the transaction on `conn` ends. For whoever removes rows that nobody may need."""
    await _lock_alone(conn, slots)
    cursor = await conn.execute(
        "SELECT slot FROM shard_slot WHERE slot = ANY(%s) ORDER BY slot", (sorted(slots),)
    )
    owned = [row[0] for row in await cursor.fetchall()]
    if owned:
        raise Conflict(f"slots {owned} are owned here; their rows stay", code="slot_owned")


def owned_twice(claims: Mapping[str, Collection[int]]) -> dict[int, tuple[str, ...]]:
    """Slots that more than one shard says it owns, with their names: never, unless edited by hand.

    claims: what `owned_slots` said, by shard; fenced slots of a source do not count.
    """
    by_slot: dict[int, list[str]] = {}
    for shard, slots in claims.items():
        for slot in slots:
            by_slot.setdefault(slot, []).append(shard)
    return {slot: tuple(names) for slot, names in sorted(by_slot.items()) if len(names) > 1}


async def _lock_alone(conn: AsyncConnection[Any], slots: Collection[int]) -> None:
    if not slots:
        raise InvalidInput("at least one slot is needed", field="slots")
    await conn.execute(_ALONE, (LOCK_CLASS, sorted(slots)))
