"""The bed of the resharding experiment and bench: shards, rows, and writers that keep count."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from month2_databases.resharding import MovedTable, MoveHook, Mover, MoveSettings, ShardServer
from month2_databases.sharding import (
    EntryPolicy,
    MapStore,
    MapWatch,
    PoolSizes,
    ShardRouter,
    ShardSettings,
    StoredMap,
    even,
    set_up_shard,
)
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.errors import ScalelabError
from scalelab.ids import SLOT_COUNT
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Postgres

TABLE = "entry"
_DDL = """
DROP TABLE IF EXISTS entry;
CREATE TABLE entry (
    id     text     PRIMARY KEY,
    slot   smallint NOT NULL,
    n      bigint   NOT NULL,
    filler text     NOT NULL
);
CREATE INDEX entry_of_slot ON entry (slot);
"""
_FILL = """
INSERT INTO entry SELECT 'old-' || s || '-' || n, s, n, repeat('x', 100)
FROM unnest(%s::int[]) AS wanted (s), generate_series(1, %s) AS n
"""


@dataclass(slots=True)
class Tally:
    """What the writers saw. acked: (instant, slot, seconds it took), of this clock. ids: of every
    acknowledged row. failed: codes of errors that reached a writer."""

    acked: list[tuple[float, int, float]] = field(default_factory=list[tuple[float, int, float]])
    ids: list[str] = field(default_factory=list[str])
    failed: list[str] = field(default_factory=list[str])

    def between(self, begun_s: float, ended_s: float, slots: Collection[int]) -> int:
        """Acknowledged writes to these slots within the time."""
        return sum(begun_s <= at_s <= ended_s and slot in slots for at_s, slot, _ in self.acked)

    def longest_gap_s(self, begun_s: float, ended_s: float, slots: Collection[int]) -> float:
        """The longest time without an acknowledged write to any of these slots."""
        instants = [at for at, slot, _ in self.acked if slot in slots and begun_s <= at <= ended_s]
        edges = [begun_s, *instants, ended_s]
        return max(after - before for before, after in itertools.pairwise(edges))


@dataclass(slots=True)
class Bed:
    """Shards by name, a router with a watched map, and a store that keeps it."""

    store: MapStore
    watch: MapWatch
    router: ShardRouter
    dsns: dict[str, str]
    servers: dict[str, ShardServer]
    maps_dsn: str

    def users(self) -> dict[int, str]:
        """A user of every slot."""
        found: dict[int, str] = {}
        for user in (f"user-{n}" for n in itertools.count()):
            found.setdefault(self.router.slot_of_user(user), user)
            if len(found) == SLOT_COUNT:
                return found
        return found

    def mover(self, settings: MoveSettings, *, passed: MoveHook = lambda _point: None) -> Mover:
        """A mover of the bed's table."""
        return Mover(
            self.store,
            self.servers,
            [MovedTable(TABLE)],
            clock=SystemClock(),
            settings=settings,
            passed=passed,
        )

    @asynccontextmanager
    async def writing(self, slots: Sequence[int], writers: int) -> AsyncGenerator[Tally, None]:
        """So many writers, each going round its share of the slots with one row at a time."""
        users, tally, stop = self.users(), Tally(), asyncio.Event()

        async def writer(number: int) -> None:
            for turn, slot in enumerate(itertools.cycle(slots[number::writers])):
                if stop.is_set():
                    return
                row = f"new-{number}-{turn}"
                begun_s = time.perf_counter()
                try:
                    async with self.router.session_for_user(users[slot]) as conn:
                        await conn.execute(
                            "INSERT INTO entry VALUES (%s, %s, %s, 'new')", (row, slot, turn)
                        )
                except ScalelabError as error:
                    tally.failed.append(error.stable_code)
                    continue
                now_s = time.perf_counter()
                tally.acked.append((now_s, slot, now_s - begun_s))
                tally.ids.append(row)

        async with asyncio.TaskGroup() as group:
            for number in range(writers):
                group.create_task(writer(number))
            try:
                yield tally
            finally:
                stop.set()

    def ids(self) -> list[str]:
        """The ids of all new rows, of every shard; one that is there twice comes twice."""
        found: list[str] = []
        for dsn in self.dsns.values():
            with psycopg.connect(dsn) as conn:
                rows = conn.execute("SELECT id FROM entry WHERE id LIKE 'new-%'").fetchall()
            found += [row[0] for row in rows]
        return found

    def rows(self, shard: str, slots: Collection[int]) -> int:
        """How many rows of these slots are on this shard."""
        with psycopg.connect(self.dsns[shard]) as conn:
            row = conn.execute(
                "SELECT count(*) FROM entry WHERE slot = ANY(%s)", (list(slots),)
            ).fetchone()
        return 0 if row is None else int(row[0])


def start_servers(runtime: Runtime, name: str, count: int) -> list[Postgres]:
    """So many primaries, named `name`-0 and so on. They do not sync to disk: no machine fails here,
    and a busy disk would say more about itself than about the move."""
    settings = {"fsync": "off", "full_page_writes": "off", "max_connections": "80"}
    servers = [Postgres(f"{name}-{number}", settings=settings) for number in range(count)]
    runtime.start(*servers)
    return servers


@asynccontextmanager
async def bed(
    running: Sequence[Postgres], database: str, *, serving: int, rows_per_slot: int
) -> AsyncGenerator[Bed, None]:
    """A database on each server, the first `serving` of which split the slots, filled with rows."""
    dsns = {one.name: one.ensure_database(database, "shop") for one in running}
    maps_dsn = running[0].ensure_database(f"{database}_maps", "shop")
    stored = even([one.name for one in running[:serving]])
    for shard, dsn in dsns.items():
        async with await psycopg.AsyncConnection[Any].connect(dsn) as conn:
            await conn.execute(_DDL)
            await conn.execute(_FILL, (list(stored.slots_of(shard)), rows_per_slot))
            await set_up_shard(conn, shard, {TABLE: "slot"}, StoredMap(stored))
        async with await psycopg.AsyncConnection[Any].connect(dsn, autocommit=True) as conn:
            await conn.execute("VACUUM ANALYZE entry")
    admins = {one.name: ShardServer(one.name, one.superuser_dsn(database)) for one in running}
    async with AsyncExitStack() as stack:
        maps = Database(PostgresSettings(maps_dsn), name="maps")
        store = MapStore(await stack.enter_async_context(maps))
        await store.create()
        await store.begin(stored)
        watch = await stack.enter_async_context(MapWatch(store, clock=SystemClock()))
        router = ShardRouter(
            [ShardSettings(shard, dsn) for shard, dsn in dsns.items()],
            token_keys=[b"a secret of the bed"],
            clock=SystemClock(),
            maps=watch,
            entry=EntryPolicy(fence_wait_s=60.0),
            pools=PoolSizes(primary_max=12, primary_wait_s=20.0),
        )
        await stack.enter_async_context(router)
        yield Bed(store, watch, router, dsns, admins, maps_dsn)
