"""The shard map in PostgreSQL: one row a version, the newest one rules.

Theory of operation
    Versions are appended and never changed, so the table is its own history. Compare-and-set is
    the primary key: version n + 1 is inserted only where n is the newest, and of two that try the
    same, one meets a row that is there already. The insert notifies `shard_map`.

Guarantees
    G1  A version, once read, reads the same for ever.
    G2  `publish` puts exactly the next version or changes nothing (Conflict `shard_map_raced`).
    G3  A row that is no map (edited by hand) raises CorruptData that says what is wrong with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from month2_databases.sharding.map_document import from_document, to_document
from month2_databases.sharding.shard_map import ShardMap
from month2_databases.sharding.slot_states import StoredMap
from scalelab.clients.postgres import Database
from scalelab.errors import Conflict, CorruptData, InvalidInput, NotFound

CHANNEL = "shard_map"
"""Notified with the new version by every publish."""

MAP_DDL = """
CREATE TABLE IF NOT EXISTS shard_map (
    version    bigint      PRIMARY KEY CHECK (version >= 1),
    document   jsonb       NOT NULL,
    reason     text        NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
)
"""
"""The table, for whoever owns the database that keeps the map."""

_NEWEST = "SELECT version, document FROM shard_map ORDER BY version DESC LIMIT 1"
_AT = "SELECT version, document FROM shard_map WHERE version = %s"
_PUBLISH = """
INSERT INTO shard_map (version, document, reason)
SELECT %(next)s, %(document)s, %(reason)s
WHERE (SELECT coalesce(max(version), 0) FROM shard_map) = %(next)s - 1
RETURNING pg_notify('shard_map', %(next)s::text)
"""
_HISTORY = """
SELECT version, reason, changed_at, document FROM shard_map ORDER BY version DESC LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class MapChange:
    """One line of the history, newest first."""

    stored: StoredMap
    reason: str
    changed_at: datetime


class MapStore:
    """Reads and changes the stored map over a `database` that its caller opens and closes."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def create(self) -> None:
        """Make the table if it is missing."""
        async with self.database.transaction() as conn:
            await conn.execute(MAP_DDL)

    async def begin(self, shard_map: ShardMap, *, reason: str = "first map") -> StoredMap:
        """Store version 1, or return the map in force where there is one already."""
        if shard_map.version != 1:
            raise InvalidInput("the first map has version 1", field="version")
        try:
            return await self.publish(StoredMap(shard_map), reason=reason)
        except Conflict:
            return await self.current()

    async def current(self, *, timeout_s: float | None = None) -> StoredMap:
        """The newest version. Raises NotFound code `shard_map_missing` before the first."""
        async with self.database.autocommit(read_only=True, timeout_s=timeout_s) as conn:
            row = await (await conn.execute(_NEWEST)).fetchone()
        if row is None:
            raise NotFound(f"{self.database.name} holds no shard map yet", code="shard_map_missing")
        return _stored(row[0], row[1])

    async def at(self, version: int) -> StoredMap:
        """One version. Raises NotFound code `shard_map_unknown` for one that never was."""
        async with self.database.autocommit(read_only=True) as conn:
            row = await (await conn.execute(_AT, (version,))).fetchone()
        if row is None:
            raise NotFound(f"there is no shard map {version}", code="shard_map_unknown")
        return _stored(row[0], row[1])

    async def publish(self, stored: StoredMap, *, reason: str) -> StoredMap:
        """Put `stored` after the version before it; returns it.

        Raises Conflict code `shard_map_raced` where that one is not the newest: read `current`,
        decide again. A lost connection is OutcomeUnknown: compare `current` with what you sent.
        """
        values = {
            "next": stored.version,
            "document": Jsonb(to_document(stored)),
            "reason": reason,
        }
        try:
            async with self.database.transaction() as conn:
                cursor = await conn.execute(_PUBLISH, values)
                placed = cursor.rowcount == 1
        except Conflict as error:
            if not isinstance(error.__cause__, psycopg.errors.UniqueViolation):
                raise
            placed = False
        if not placed:
            raise Conflict(
                f"shard map {stored.version} does not follow the newest one",
                code="shard_map_raced",
            )
        return stored

    async def history(self, *, limit: int = 20) -> list[MapChange]:
        """The last `limit` versions, newest first."""
        async with self.database.autocommit(read_only=True) as conn:
            rows = await (await conn.execute(_HISTORY, (limit,))).fetchall()
        return [MapChange(_stored(row[0], row[3]), row[1], row[2]) for row in rows]


def _stored(version: int, document: Any) -> StoredMap:
    try:
        return from_document(version, document)
    except InvalidInput as error:
        raise CorruptData(
            f"shard map {version} in the store is none: {error.message}", code=error.stable_code
        ) from error
