"""Two shards as databases of one server, a stored map, a shop that writes, and a mover."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from month2_databases.resharding import MovedTable, Mover, MoveSettings, ShardServer
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

TABLES = (MovedTable("account"), MovedTable("entry"))
QUICK = MoveSettings(grace_s=0.0, retry_s=0.05, delete_batch=50, delete_pause_s=0.0)
SHARDS = ("a", "b")
_HERE = Path(__file__).parent
_DDL = """
CREATE TABLE account (
    id    text     PRIMARY KEY,
    slot  smallint NOT NULL,
    total bigint   NOT NULL,
    note  text
);
CREATE TABLE entry (
    account text     NOT NULL REFERENCES account,
    n       bigint   NOT NULL,
    slot    smallint NOT NULL,
    amount  bigint   NOT NULL,
    twice   bigint   GENERATED ALWAYS AS (amount * 2) STORED,
    PRIMARY KEY (account, n)
);
CREATE INDEX ON account (slot);
CREATE INDEX ON entry (slot);
"""


@dataclass
class Shop:
    """Accounts on shards a and b. acked: by account, the entries that were acknowledged."""

    store: MapStore
    router: ShardRouter
    servers: dict[str, ShardServer]
    dsns: dict[str, str]
    maps_dsn: str
    acked: dict[str, list[int]] = field(default_factory=dict)
    failed: list[BaseException] = field(default_factory=list)

    def user_in(self, slot: int) -> str:
        """A user of this slot, always the same."""
        return next(
            user
            for user in (f"user-{n}" for n in itertools.count())
            if self.router.slot_of_user(user) == slot
        )

    def slots_of(self, shard: str, count: int) -> tuple[int, ...]:
        return self.router.shard_map.slots_of(shard)[:count]

    async def open_account(self, user: str, *, note: str | None = None) -> None:
        async with self.router.session_for_user(user) as conn:
            await conn.execute(
                "INSERT INTO account VALUES (%s, %s, 0, %s)",
                (user, self.router.slot_of_user(user), note),
            )
        self.acked.setdefault(user, [])

    async def add(self, user: str, n: int) -> None:
        """One transaction: an entry, and the account's total after it."""
        async with self.router.session_for_user(user) as conn:
            await conn.execute(
                "INSERT INTO entry (account, n, slot, amount) VALUES (%s, %s, %s, %s)",
                (user, n, self.router.slot_of_user(user), n),
            )
            await conn.execute("UPDATE account SET total = total + %s WHERE id = %s", (n, user))
        self.acked[user].append(n)

    @asynccontextmanager
    async def writing(self, users: Sequence[str]) -> AsyncIterator[None]:
        """A writer an account, as fast as it goes, until the block ends; failures are kept."""
        stop = asyncio.Event()

        async def writer(user: str) -> None:
            for n in itertools.count(len(self.acked[user]) + 1):
                if stop.is_set():
                    return
                try:
                    await self.add(user, n)
                except Exception as error:  # noqa: BLE001 - judged by the test
                    self.failed.append(error)
                    return

        async with asyncio.TaskGroup() as group:
            for user in users:
                group.create_task(writer(user))
            try:
                yield
            finally:
                stop.set()

    def rows(self, shard: str, query: str) -> list[Any]:
        with psycopg.connect(self.servers[shard].dsn) as conn:
            return conn.execute(query.encode()).fetchall()

    def entries(self) -> dict[str, list[int]]:
        """By account, the entries of both shards together, in order."""
        found: dict[str, list[int]] = {user: [] for user in self.acked}
        for shard in SHARDS:
            for account, n in self.rows(shard, "SELECT account, n FROM entry ORDER BY n"):
                found[account].append(n)
        return found

    def totals(self) -> dict[str, int]:
        """By account, the total that its owner keeps."""
        both = [
            row for shard in SHARDS for row in self.rows(shard, "SELECT id, total FROM account")
        ]
        assert len(both) == len(dict(both))
        return dict(both)

    @asynccontextmanager
    async def mortal_movers(self, name: str) -> AsyncIterator[Callable[[str], Awaitable[int]]]:
        """`await run(point)`: a process carries the move on, killing itself at the point; its end.

        All come from one that has loaded the code already.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(_HERE / "mortal_mover.py"),
            self.maps_dsn,
            *(self.servers[shard].dsn for shard in SHARDS),
            name,
            env={**os.environ, "PYTHONPATH": str(_HERE.parents[3])},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        async def run(point: str) -> int:
            stdin.write(f"{point}\n".encode())
            return int(await stdout.readline())

        try:
            yield run
        finally:
            stdin.close()
            await process.wait()

    def left_behind(self) -> list[str]:
        """Replication slots, publications and progress that a move did not take with it."""
        found: list[str] = []
        for shard in SHARDS:
            names = [
                "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()",
                "SELECT pubname FROM pg_publication",
            ]
            if self.rows(shard, "SELECT to_regclass('shard_move_progress')")[0][0]:
                names.append("SELECT move FROM shard_move_progress")
            found += [row[0] for query in names for row in self.rows(shard, query)]
        return found

    def mover(self, settings: MoveSettings = QUICK, **more: Any) -> Mover:
        return Mover(
            self.store, self.servers, TABLES, clock=SystemClock(), settings=settings, **more
        )


@pytest.fixture
def shard_dsns(postgres_server: Any, database_dsn: str) -> Iterator[dict[str, str]]:
    """A database for each shard, owned by the application's role."""
    name = database_dsn.rsplit("/", 1)[1]
    yield {s: postgres_server.ensure_database(f"{name}_{s}", "tester") for s in SHARDS}
    with psycopg.connect(postgres_server.superuser_dsn(), autocommit=True) as conn:
        for shard in SHARDS:
            conn.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
                " WHERE database = %s AND active",
                (f"{name}_{shard}",),
            )
            conn.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE database = %s AND NOT active",
                (f"{name}_{shard}",),
            )
            conn.execute(f"DROP DATABASE {name}_{shard} WITH (FORCE)".encode())


@pytest.fixture
async def shop(
    postgres_server: Any, database_dsn: str, shard_dsns: dict[str, str]
) -> AsyncIterator[Shop]:
    shard_map = even(list(SHARDS))
    for shard, dsn in shard_dsns.items():
        async with await psycopg.AsyncConnection.connect(dsn) as conn:
            await conn.execute(_DDL)
            tables = {table.name: table.slot for table in TABLES}
            await set_up_shard(conn, shard, tables, StoredMap(shard_map))
    async with AsyncExitStack() as stack:
        maps = Database(PostgresSettings(database_dsn), name="maps")
        store = MapStore(await stack.enter_async_context(maps))
        await store.create()
        await store.begin(shard_map)
        watch = await stack.enter_async_context(MapWatch(store, clock=SystemClock()))
        router = ShardRouter(
            [ShardSettings(shard, dsn) for shard, dsn in shard_dsns.items()],
            token_keys=[b"a secret of the tests"],
            clock=SystemClock(),
            maps=watch,
            entry=EntryPolicy(fence_wait_s=60.0),
            pools=PoolSizes(primary_max=6, primary_wait_s=20.0),
        )
        servers = {
            shard: ShardServer(shard, postgres_server.superuser_dsn(dsn.rsplit("/", 1)[1]))
            for shard, dsn in shard_dsns.items()
        }
        await stack.enter_async_context(router)
        yield Shop(store, router, servers, shard_dsns, database_dsn)
