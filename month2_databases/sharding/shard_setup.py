"""What a shard needs before routers with a stored map write to it: the guard, its first slots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import AsyncConnection

from month2_databases.sharding.slot_guard import GUARD_DDL, guard_table, open_slots, owned_slots
from month2_databases.sharding.slot_states import StoredMap


async def set_up_shard(
    conn: AsyncConnection[Any], name: str, tables: Mapping[str, str], stored: StoredMap
) -> None:
    """The guard on the shard `name` and its tables, {table: slot column}. In a transaction.

    Repeatable. Slots are opened only while the map is the first one, and only on a shard that says
    of none that it has it: doing it again, or with a shard more, gives nobody a slot it has lost.
    """
    await conn.execute(GUARD_DDL.encode())
    for table, column in tables.items():
        await guard_table(conn, table, column)
    slots = stored.shard_map.slots_of(name)
    if stored.version == 1 and slots and not await owned_slots(conn):
        await open_slots(conn, slots, map_version=1)
