"""What must stand before the order book starts: the map, and on every shard tables and slots.

Repeatable, and safe beside another start: tables are made under a lock, the first map is stored
once, and a slot that has moved since is not opened where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from month2_databases.sharding import (
    MapStore,
    ShardMap,
    ShardSettings,
    StoredMap,
    set_up_shard,
)
from scalelab.clients import migrations
from scalelab.clients.postgres import Database, PostgresSettings

TABLE, SLOT = "orders", "slot"
"""The table whose rows belong to slots, and its column that says which."""

MIGRATIONS = Path(__file__).with_name("migrations")
"""The schema's history, the same for every shard."""


async def prepare_map(dsn: str, first: ShardMap) -> StoredMap:
    """The map in force, kept in the database at `dsn`; `first` where there is none yet."""
    async with Database(PostgresSettings(dsn), name="shard-map") as database:
        store = MapStore(database)
        await store.create()
        return await store.begin(first)


async def prepare_shards(shards: Sequence[ShardSettings], stored: StoredMap) -> None:
    """Bring every shard's schema up to date and open its slots, side by side."""
    async with asyncio.TaskGroup() as group:
        for shard in shards:
            group.create_task(_prepare(shard, stored))


async def _prepare(shard: ShardSettings, stored: StoredMap) -> None:
    await asyncio.to_thread(migrations.upgrade, shard.primary, MIGRATIONS)
    async with (
        Database(PostgresSettings(shard.primary), name=shard.name) as database,
        database.transaction() as conn,
    ):
        await set_up_shard(conn, shard.name, {TABLE: SLOT}, stored)
