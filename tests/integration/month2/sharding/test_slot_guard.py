"""Two shards that know their slots, and a router whose map is watched: nothing lands astray."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from month2_databases.sharding import (
    GUARD_DDL,
    EntryPolicy,
    FastSettings,
    HashPlacement,
    MapStore,
    MapWatch,
    ShardedDatabase,
    ShardRouter,
    ShardSettings,
    SlotFenced,
    SlotState,
    StaleShardMap,
    StoredMap,
    WriteSession,
    admit,
    even,
    fence_slots,
    give_up_slots,
    guard_table,
    open_slots,
    owned_slots,
    owned_twice,
)
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.errors import Unavailable

Wait = Callable[..., Awaitable[None]]
KEY = b"a secret of the tests"
USER = "user-7"
SLOT = 62


@dataclass
class Bed:
    """Shards a and b with the table `note`; SLOT is on a."""

    store: MapStore
    watch: MapWatch
    router: ShardRouter
    shards: dict[str, Database]
    dsns: dict[str, str]

    async def write(self, value: int, *, on: ShardRouter | None = None) -> str:
        return (await self.session_of(value, on or self.router)).shard

    async def token_of(self, value: int) -> str:
        """Of a write of `value` by the router whose map is watched."""
        token = (await self.session_of(value, self.router)).token
        assert token is not None
        return token

    async def session_of(self, value: int, router: ShardRouter) -> WriteSession:
        session = router.session_for_user(USER)
        async with session as conn:
            await conn.execute("INSERT INTO note VALUES (%s, %s)", (value, SLOT))
        return session

    async def values(self, shard: str) -> list[int]:
        async with self.shards[shard].autocommit(read_only=True) as conn:
            rows = await (await conn.execute("SELECT k FROM note ORDER BY k")).fetchall()
        return [row[0] for row in rows]

    async def fence(self, version: int) -> None:
        async with self.shards["a"].transaction() as conn:
            await fence_slots(conn, [SLOT], map_version=version)

    async def hand_over(self) -> StoredMap:
        """Move SLOT to b, without its rows."""
        stored = (await self.store.current()).moving([SLOT], "b")
        await self.store.publish(stored, reason="move")
        await self.store.publish(stored := stored.fenced([SLOT]), reason="fence")
        await self.fence(stored.version)
        async with self.shards["b"].transaction() as conn:
            await open_slots(conn, [SLOT], map_version=stored.version + 1)
        await self.store.publish(stored := stored.switched([SLOT]), reason="switch")
        async with self.shards["a"].transaction() as conn:
            await give_up_slots(conn, [SLOT])
        return stored


@pytest.fixture
async def bed(postgres_server: Any, database_dsn: str) -> AsyncIterator[Bed]:
    shards: dict[str, Database] = {}
    name = database_dsn.rsplit("/", 1)[1]
    dsns = {shard: postgres_server.ensure_database(f"{name}_{shard}", "tester") for shard in "ab"}
    stored = StoredMap(even(["a", "b"]))
    async with AsyncExitStack() as stack:
        for shard, dsn in dsns.items():
            shards[shard] = await stack.enter_async_context(
                Database(PostgresSettings(dsn, pool_max=4), name=shard)
            )
            async with shards[shard].transaction() as conn:
                await conn.execute(GUARD_DDL)
                await conn.execute("CREATE TABLE note (k bigint PRIMARY KEY, slot smallint)")
                await guard_table(conn, "note")
                await open_slots(conn, stored.shard_map.slots_of(shard), map_version=1)
        maps = await stack.enter_async_context(
            Database(PostgresSettings(database_dsn), name="maps")
        )
        store = MapStore(maps)
        await store.create()
        await store.begin(stored.shard_map)
        watch = await stack.enter_async_context(MapWatch(store, clock=SystemClock(), poll_s=3600.0))
        router = await stack.enter_async_context(router_on(watch, dsns))
        yield Bed(store, watch, router, shards, dsns)
    with psycopg.connect(postgres_server.superuser_dsn(), autocommit=True) as conn:
        for shard in "ab":
            conn.execute(f"DROP DATABASE {name}_{shard} WITH (FORCE)".encode())


def router_on(watch: MapWatch, dsns: dict[str, str], **entry: Any) -> ShardRouter:
    return ShardRouter(
        [ShardSettings(shard, dsn) for shard, dsn in dsns.items()],
        token_keys=[KEY],
        clock=SystemClock(),
        maps=watch,
        entry=EntryPolicy(**entry),
    )


async def test_a_write_with_a_stale_map_goes_where_the_newest_one_says(bed: Bed) -> None:
    """G4 of the router: the shard refuses, the map is read again, the write lands once."""
    assert bed.router.slot_of_user(USER) == SLOT
    assert await bed.write(1) == "a"
    stale = MapWatch(bed.store, clock=SystemClock(), initial=bed.watch.current)  # not entered
    async with router_on(stale, bed.dsns) as router:
        await bed.hand_over()
        assert stale.current.version == 1
        assert await bed.write(2, on=router) == "b"
    assert (await bed.values("a"), await bed.values("b")) == ([1], [2])
    assert stale.current.version == 4


async def test_a_shard_refuses_what_it_does_not_own_whoever_asks(bed: Bed) -> None:
    """The trigger: a direct write, an update, a delete, and a row without a slot."""
    await bed.write(1)
    await bed.hand_over()
    for statement in (
        f"INSERT INTO note VALUES (2, {SLOT})",
        "INSERT INTO note VALUES (2, NULL)",
        "UPDATE note SET k = 2",
        "DELETE FROM note",
        f"UPDATE note SET slot = {SLOT + 1}",
    ):
        with pytest.raises(psycopg.Error) as caught:
            async with await psycopg.AsyncConnection.connect(bed.dsns["a"]) as conn:
                await conn.execute(statement.encode())
        assert caught.value.sqlstate == "SL001"
    assert await bed.values("a") == [1]


async def test_a_row_has_its_slot_for_ever(bed: Bed) -> None:
    """G3: a move follows rows by their slot, so one that changed it would be left behind."""
    await bed.write(1)
    async with await psycopg.AsyncConnection.connect(bed.dsns["a"]) as conn:
        with pytest.raises(psycopg.errors.CheckViolation):
            await conn.execute("UPDATE note SET slot = slot + 1")


async def test_a_refusal_in_the_block_takes_the_whole_transaction_back(bed: Bed) -> None:
    """G2: the session names it by its stable code."""

    async def astray() -> None:
        async with bed.router.session_for_user(USER) as conn:
            await conn.execute("INSERT INTO note VALUES (1, %s)", (SLOT,))
            await conn.execute("INSERT INTO note VALUES (2, 200)")

    with pytest.raises(StaleShardMap) as caught:
        await astray()
    assert (caught.value.stable_code, caught.value.retryable) == ("stale_shard_map", True)
    assert await bed.values("a") == []


async def test_a_fence_waits_for_writes_under_way_and_none_comes_after(
    bed: Bed, wait_until: Wait
) -> None:
    """G1: the write that was first commits, the one that waited behind the fence does not."""
    async with bed.router.session_for_user(USER) as conn:
        await conn.execute("INSERT INTO note VALUES (1, %s)", (SLOT,))
        fencing = asyncio.create_task(bed.fence(2))
        await wait_until(lambda: waiting_locks(bed, 1), what="the fence waits for the write")
        late = asyncio.create_task(direct(bed, 2))
        await wait_until(lambda: waiting_locks(bed, 2), what="a later write waits for the fence")
    await fencing
    with pytest.raises(psycopg.Error) as caught:
        await late
    assert caught.value.sqlstate == "SL002"
    assert await bed.values("a") == [1]


async def test_a_repeatable_read_from_before_the_fence_does_not_slip_through(bed: Bed) -> None:
    """Its snapshot still shows the slot as owned; the row lock finds out."""
    async with await psycopg.AsyncConnection.connect(bed.dsns["a"]) as conn:
        await conn.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await conn.execute("SELECT 1 FROM shard_slot")
        await bed.fence(2)
        with pytest.raises(psycopg.errors.SerializationFailure):
            await conn.execute("INSERT INTO note VALUES (1, %s)", (SLOT,))
    assert await bed.values("a") == []


async def test_a_write_waits_out_a_fence(bed: Bed, wait_until: Wait) -> None:
    """Nobody is told of a slot that is unwritable for a moment."""
    await bed.fence(2)
    writing = asyncio.create_task(bed.write(1))
    await wait_until(lambda: refused(bed), what="the write was refused at least once")
    async with bed.shards["a"].transaction() as conn:
        await open_slots(conn, [SLOT], map_version=2)
    await bed.store.publish((await bed.store.current()).moving([SLOT], "b"), reason="version 2")
    assert await writing == "a"


async def test_a_fence_that_stays_is_an_error_with_a_code(bed: Bed) -> None:
    """Bounded: fence_wait_s, here nothing."""
    await bed.fence(2)
    async with router_on(bed.watch, bed.dsns, fence_wait_s=0.0) as router:
        with pytest.raises(SlotFenced) as caught:
            await bed.write(1, on=router)
    assert (caught.value.stable_code, caught.value.retry_after_s) == ("slot_fenced", 0.25)


async def test_a_slot_that_no_shard_admits_is_given_up_after_so_many_maps(bed: Bed) -> None:
    """Bounded: the store and the shards disagree, and the caller is told."""
    async with bed.shards["a"].transaction() as conn:
        await give_up_slots(conn, [SLOT])
    with pytest.raises(StaleShardMap):
        await bed.write(1)
    assert (await bed.values("a"), await bed.values("b")) == ([], [])


async def test_a_map_older_than_the_slots_arrival_is_refused(bed: Bed) -> None:
    """G4: the slot went away and came back; who slept through it is told, and catches up."""
    async with bed.shards["a"].transaction() as conn:
        await open_slots(conn, [SLOT], map_version=3)
    async with await psycopg.AsyncConnection.connect(bed.dsns["a"]) as conn:
        await admit(conn, SLOT, map_version=3)
        with pytest.raises(psycopg.Error) as caught:
            await admit(conn, SLOT, map_version=2)
    assert caught.value.sqlstate == "SL003"
    stored = await bed.store.publish(bed.watch.current.moving([9], "b"), reason="two")
    await bed.store.publish(stored.kept([9]), reason="three")
    assert await bed.write(1) == "a"


async def test_a_map_with_a_shard_nobody_told_of_fails_only_its_keys(
    bed: Bed, wait_until: Wait
) -> None:
    """Unavailable, code `shard_unknown`; the others are served."""
    stored = await bed.store.current()
    for step in (
        lambda s: s.moving([SLOT], "c"),
        lambda s: s.fenced([SLOT]),
        lambda s: s.switched([SLOT]),
    ):
        stored = await bed.store.publish(step(stored), reason="to c")
    await wait_until(lambda: bed.watch.current == stored, what="the watch has the map")
    with pytest.raises(Unavailable) as caught:
        await bed.write(1)
    assert caught.value.stable_code == "shard_unknown"
    other = next(u for u in map(str, range(99)) if bed.router.slot_of_user(u) != SLOT)
    async with bed.router.session_for_user(other) as conn:
        await conn.execute("SELECT 1")


async def test_every_slot_has_one_owner_and_a_double_claim_is_found(bed: Bed) -> None:
    """What the shards say of themselves, compared."""
    claims: dict[str, dict[int, tuple[SlotState, int]]] = {}
    for shard, database in bed.shards.items():
        async with database.autocommit(read_only=True) as conn:
            claims[shard] = await owned_slots(conn)
    assert owned_twice(claims) == {}
    claims["b"][SLOT] = (SlotState.OWNED, 1)
    assert owned_twice(claims) == {SLOT: ("a", "b")}


async def direct(bed: Bed, value: int) -> None:
    async with await psycopg.AsyncConnection.connect(bed.dsns["a"]) as conn:
        await conn.execute("INSERT INTO note VALUES (%s, %s)", (value, SLOT))


async def waiting_locks(bed: Bed, least: int) -> bool:
    async with bed.shards["a"].autocommit(read_only=True) as conn:
        cursor = await conn.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        row = await cursor.fetchone()
    return row is not None and row[0] >= least


async def refused(bed: Bed) -> bool:
    async with bed.shards["a"].autocommit(read_only=True) as conn:
        await conn.execute("SELECT pg_stat_clear_snapshot()")
        cursor = await conn.execute(
            "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        )
        row = await cursor.fetchone()
    return row is not None and row[0] >= 1


async def test_the_fast_path_names_a_refusal_and_does_not_blame_the_server(bed: Bed) -> None:
    """A closed slot, then one that went: however often, other slots' statements still go there."""
    fast = FastSettings(size=1, timeout_s=20.0, connect_timeout_s=20.0)
    placement = HashPlacement(even(["a", "b"]))
    insert = "INSERT INTO note VALUES (%s, %s)"
    async with ShardedDatabase(placement, bed.dsns, settings=fast) as direct:

        async def refused(kind: type[Unavailable]) -> None:
            for value in range(30):
                with pytest.raises(kind) as refusal:
                    await direct.execute(insert, (value, SLOT), key=USER)
                assert refusal.value.retry_after_s is not None
            assert await direct.fetch("SELECT k FROM note", key=USER) == []

        await bed.fence(1)
        await refused(SlotFenced)
        await bed.hand_over()
        await refused(StaleShardMap)
        assert (await direct.execute(insert, (1, SLOT + 1), key=USER))[0] == 1
    assert await bed.values("a") == [1]


async def test_a_token_of_the_new_shard_makes_an_old_map_look_again(bed: Bed) -> None:
    """G1 of the router: the old primary still has the rows, and they are not what was written."""
    stale = MapWatch(bed.store, clock=SystemClock(), initial=bed.watch.current)  # not entered
    async with router_on(stale, bed.dsns) as router:
        old_token = await bed.token_of(1)
        await bed.hand_over()
        new_token = await bed.token_of(2)
        assert await read_by(router, old_token) == ("a", [1])
        assert stale.current.version == 1
        assert await read_by(router, new_token) == ("b", [2])
        assert stale.current.version == 4
        assert await read_by(router, old_token) == ("b", [2])


async def test_a_token_of_another_shard_is_not_answered_from_an_old_map(
    bed: Bed, caplog: pytest.LogCaptureFixture
) -> None:
    """With the map's store away nobody knows where the write is: the read fails, it is not old."""
    caplog.set_level(logging.CRITICAL, logger="psycopg.pool")
    nobody = PostgresSettings("postgresql://nobody@127.0.0.1:1/none", acquire_timeout_s=0.3)
    async with Database(nobody, name="maps") as away:
        stale = MapWatch(MapStore(away), clock=SystemClock(), initial=bed.watch.current)
        async with router_on(stale, bed.dsns) as router:
            old_token = await bed.token_of(1)
            await bed.hand_over()
            new_token = await bed.token_of(2)
            with pytest.raises(Unavailable):
                await read_by(router, new_token)
            assert await read_by(router, old_token) == ("a", [1])


async def read_by(router: ShardRouter, token: str) -> tuple[str, list[int]]:
    session = router.read_session(user_id=USER, token=token)
    async with session as conn:
        rows = await (await conn.execute("SELECT k FROM note ORDER BY k")).fetchall()
    return session.server_name, [row[0] for row in rows]
