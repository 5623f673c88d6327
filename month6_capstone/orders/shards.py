"""Month 3's order code on month 2's shards: what both processes use, and what both need first.

Which shard has a slot is said by a stored map that both processes follow, so slots can be moved
while they run. Only the relays and the clean-up go to a shard past the router: a relay touches the
outbox alone, whose rows never move; a clean-up that meets a slot on the way is refused by the
shard's own guard, and comes again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from month2_databases.sharding import (
    MapStore,
    MapWatch,
    Phase,
    ShardMigrations,
    ShardRouter,
    ShardSettings,
    StoredMap,
    even,
    set_up_shard,
)
from month2_databases.sharding import ReadSession as RoutedRead
from month2_databases.sharding import WriteSession as RoutedWrite
from month3_messaging.orders import (
    MIGRATIONS,
    MOVING_TABLES,
    SLOT,
    ReadSession,
    Sessions,
    WriteSession,
)
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import Clock
from scalelab.errors import CorruptData


def prepare(shards: Sequence[ShardSettings], map_dsn: str) -> None:
    """Tables on every shard, the first map where there is none, and the guard of each one's slots.

    Repeatable: slots that have moved stay where they are. Blocking, and starts a loop of its own.
    Raises Unavailable if a server is away.
    """
    primaries = {shard.name: shard.primary for shard in shards}
    for error in ShardMigrations(primaries, MIGRATIONS).run(Phase.BACKFILL).failed.values():
        raise error
    asyncio.run(_open_slots(primaries, map_dsn))


async def _open_slots(primaries: Mapping[str, str], map_dsn: str) -> None:
    async with _keeper(map_dsn) as keeper:
        store = MapStore(keeper)
        await store.create()
        stored = await store.begin(even(list(primaries)))
    async with asyncio.TaskGroup() as group:
        for name, dsn in primaries.items():
            group.create_task(_guard(name, dsn, stored))


async def _guard(name: str, dsn: str, stored: StoredMap) -> None:
    async with (
        Database(PostgresSettings(dsn), name=name) as database,
        database.transaction() as conn,
    ):
        await set_up_shard(conn, name, dict.fromkeys(MOVING_TABLES, SLOT), stored)


def _keeper(map_dsn: str) -> Database:
    return Database(PostgresSettings(map_dsn, pool_max=2), name="shardmap")


def map_watch(map_dsn: str, clock: Clock) -> tuple[Database, MapWatch]:
    """The database of the map, and the map as it is followed; to be entered in this order."""
    keeper = _keeper(map_dsn)
    return keeper, MapWatch(MapStore(keeper), clock=clock)


def sessions_of(router: ShardRouter) -> Sessions:
    """The four openers on a router; a write session's token is there after its block."""

    @asynccontextmanager
    async def write(routed: RoutedWrite) -> AsyncGenerator[WriteSession, None]:
        async with routed as conn:
            session = WriteSession(conn, routed.shard)
            yield session
        session.token = routed.token

    @asynccontextmanager
    async def read(routed: RoutedRead) -> AsyncGenerator[ReadSession, None]:
        async with routed as conn:
            yield ReadSession(conn, routed.shard, routed.role.value)

    return Sessions(
        for_order=lambda order_id: write(router.session_for(order_id)),
        for_user=lambda user_id: write(router.session_for_user(user_id)),
        read_order=lambda order_id, token: read(
            router.read_session(order_id=order_id, token=token)
        ),
        read_user=lambda user_id, token: read(router.read_session(user_id=user_id, token=token)),
    )


def read_token_keys(file: Path) -> tuple[bytes, ...]:
    """The secrets that sign consistency tokens: one per line, the first signs, all verify.

    Raises CorruptData if the file has none.
    """
    keys = tuple(line.strip().encode() for line in file.read_text().splitlines() if line.strip())
    if not keys:
        raise CorruptData(f"{file} holds no secret for consistency tokens")
    return keys
