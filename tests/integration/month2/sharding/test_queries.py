"""The sharded database on two real servers: one shard by key, all shards on request."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from month2_databases.sharding import (
    Aggregates,
    Directory,
    FastSettings,
    Fold,
    HashPlacement,
    Ordered,
    Partial,
    ShardedDatabase,
    SplitKeys,
    even,
)
from scalelab.errors import (
    Conflict,
    InvalidInput,
    OutcomeUnknown,
    Overloaded,
    ScalelabError,
    Unavailable,
)

Wait = Callable[..., Awaitable[None]]
PLACEMENT = HashPlacement(even(["shard-0", "shard-1"]))
USERS = [f"q-{n:03}" for n in range(60)]
WAIT_S = 20.0


@asynccontextmanager
async def opened(cluster: Any, **settings: Any) -> AsyncIterator[ShardedDatabase]:
    servers = {"shard-0": cluster.dsn(cluster.primary), "shard-1": cluster.dsn(cluster.lone)}
    fast = FastSettings(**{"size": 3, "timeout_s": WAIT_S, "connect_timeout_s": WAIT_S, **settings})
    async with ShardedDatabase(PLACEMENT, servers, settings=fast) as made:
        yield made


@pytest.fixture
async def db(cluster: Any) -> AsyncIterator[ShardedDatabase]:
    async with opened(cluster) as made:
        yield made


@pytest.fixture
async def filled(db: ShardedDatabase) -> ShardedDatabase:
    """A row for each user: q-000 is worth 0, q-001 is worth 1, ..."""
    for value, user in enumerate(USERS):
        await db.execute(
            "INSERT INTO note VALUES (%s, %s) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
            (user, value),
            key=user,
        )
    return db


def one_on(shard: str) -> str:
    return next(user for user in USERS if PLACEMENT.shard_of(user) == shard)


async def test_a_row_is_on_the_shard_of_its_key_and_on_no_other(
    cluster: Any, filled: ShardedDatabase
) -> None:
    """Looked up on each server, past the router."""
    for shard, server in (("shard-0", cluster.primary), ("shard-1", cluster.lone)):
        there = cluster.execute(server, "SELECT array_agg(k) FROM note WHERE k LIKE 'q-%'")
        assert sorted(there) == [u for u in USERS if PLACEMENT.shard_of(u) == shard]
    for value, user in enumerate(USERS):
        assert await filled.fetch("SELECT v FROM note WHERE k = %s", (user,), key=user) == [
            (value,)
        ]


async def test_a_query_without_a_key_is_refused_on_every_way(db: ShardedDatabase) -> None:
    """Nothing is sent; NULL has a code of its own."""
    for refused in (
        lambda: db.fetch("SELECT 1"),
        lambda: db.execute("DELETE FROM note"),
        lambda: db.transaction().__aenter__(),
    ):
        with pytest.raises(InvalidInput) as refusal:
            await refused()
        assert refusal.value.stable_code == "shard_key_missing"
    with pytest.raises(InvalidInput) as null:
        await db.execute("DELETE FROM note", key=None)
    assert null.value.stable_code == "shard_key_null"


async def test_a_change_gives_its_count_and_what_it_returns(filled: ShardedDatabase) -> None:
    """One row touched, RETURNING read."""
    user = one_on("shard-1")
    statement = "UPDATE note SET v = v + 1000 WHERE k = %s RETURNING v"
    count, rows = await filled.execute(statement, (user,), key=user)
    assert (count, rows) == (1, [(1000 + USERS.index(user),)])


async def test_a_transaction_rolls_back_on_its_shard(filled: ShardedDatabase) -> None:
    """As Database.transaction does; here only routed."""
    user = one_on("shard-0")

    async def change_of_mind() -> None:
        async with filled.transaction(key=user) as conn:
            await conn.execute("DELETE FROM note WHERE k = %s", (user,))
            raise Conflict("changed my mind")

    with pytest.raises(Conflict, match="changed my mind"):
        await change_of_mind()
    assert len(await filled.fetch("SELECT FROM note WHERE k = %s", (user,), key=user)) == 1


async def test_a_broken_rule_leaves_the_connection_usable(filled: ShardedDatabase) -> None:
    """The same single connection answers after a unique violation and after nonsense."""
    user = one_on("shard-0")
    with pytest.raises(Conflict) as refusal:
        await filled.execute("INSERT INTO note VALUES (%s, 1)", (user,), key=user)
    assert refusal.value.stable_code == "unique_violation"
    with pytest.raises(ScalelabError):
        await filled.fetch("SELECT nonsense", key=user)
    assert await filled.fetch("SELECT 1", key=user) == [(1,)]


async def test_the_first_rows_of_all_shards_come_in_one_order(filled: ShardedDatabase) -> None:
    """Each shard sorts and limits, the merge takes the first of them."""
    answer = await filled.scatter(
        "SELECT k, v FROM note WHERE k LIKE 'q-%%' ORDER BY v DESC LIMIT %s",
        (7,),
        merge=Ordered((1,), 7, descending=True),
        deadline_s=WAIT_S,
    )
    assert answer.rows == [(user, USERS.index(user)) for user in USERS[:-8:-1]]
    assert answer.missing == {}


async def test_aggregates_are_over_all_shards(filled: ShardedDatabase) -> None:
    """Count, sum and a mean that is no mean of means."""
    answer = await filled.scatter(
        "SELECT count(*), sum(v)::bigint, sum(v)::bigint, count(v) FROM note WHERE k LIKE 'q-%%'",
        merge=Aggregates((Fold.COUNT, Fold.SUM, Fold.AVG)),
        deadline_s=WAIT_S,
    )
    total = sum(range(len(USERS)))
    assert answer.rows == [(len(USERS), total, total / len(USERS))]


async def test_a_stream_gives_every_row_in_order_in_small_batches(filled: ShardedDatabase) -> None:
    """All users by name; and a consumer that stops early leaves no transaction open."""
    statement = "SELECT k FROM note WHERE k LIKE 'q-%%' ORDER BY k"
    async with filled.stream(statement, order=Ordered((0,)), batch=4) as rows:
        assert [row[0] async for row in rows] == USERS
    async with filled.stream(statement, order=Ordered((0,), limit=3), batch=4) as rows:
        assert [row[0] async for row in rows] == USERS[:3]
    falling = Ordered((0,), descending=True)
    async with filled.stream(f"{statement} DESC", order=falling, batch=4) as rows:
        assert [row[0] async for row in rows] == USERS[::-1]
    async with filled.stream(statement, order=Ordered((0,)), batch=4) as rows:
        assert (await anext(rows))[0] == USERS[0]
    for database in filled.databases.values():
        await database.ping(timeout_s=WAIT_S)


async def test_a_dead_shard_is_missing_from_an_answer_that_allows_it(
    cluster: Any, filled: ShardedDatabase
) -> None:
    """Refused otherwise; and the other shard's keys never notice."""
    statement = "SELECT k FROM note WHERE k LIKE 'q-%%'"
    here, there = one_on("shard-0"), one_on("shard-1")
    await asyncio.to_thread(cluster.runtime.kill, "shard-1")
    try:
        part = await filled.scatter(statement, deadline_s=WAIT_S, partial=Partial.ALLOW)
        assert {row[0] for row in part.rows} == {
            u for u in USERS if PLACEMENT.shard_of(u) == "shard-0"
        }
        assert part.missing.keys() == {"shard-1"}
        with pytest.raises(Unavailable) as refusal:
            await filled.scatter(statement, deadline_s=WAIT_S)
        assert refusal.value.stable_code == "scatter_incomplete"
        for _ in range(5):
            with pytest.raises(Unavailable):
                await filled.fetch("SELECT 1", key=there)
            assert await filled.fetch("SELECT 1", key=here) == [(1,)]
    finally:
        await asyncio.to_thread(cluster.runtime.restart, "shard-1")


async def test_a_restarted_server_is_used_without_an_error(
    cluster: Any, filled: ShardedDatabase
) -> None:
    """G2: connections that died while they lay idle are seen before they are used."""
    user = one_on("shard-1")
    await asyncio.to_thread(cluster.runtime.kill, "shard-1")
    await asyncio.to_thread(cluster.runtime.restart, "shard-1")
    assert await filled.fetch("SELECT 1", key=user) == [(1,)]


async def test_a_frozen_shard_costs_its_callers_their_deadline_and_no_more(
    cluster: Any, wait_until: Wait
) -> None:
    """G1: a read becomes Unavailable, a change that was sent OutcomeUnknown; then it is used."""
    user = one_on("shard-1")
    async with opened(cluster) as db:
        # Both connections are made before, so that what is late is the statement.
        await asyncio.gather(*(db.fetch("SELECT pg_sleep(0.1)", key=user) for _ in range(2)))
        await asyncio.to_thread(cluster.runtime.pause, "shard-1")
        try:
            results = await asyncio.gather(
                db.fetch("SELECT 1", key=user, timeout_s=0.5),
                db.execute("UPDATE note SET v = 1 WHERE false", key=user, timeout_s=0.5),
                return_exceptions=True,
            )
        finally:
            await asyncio.to_thread(cluster.runtime.resume, "shard-1")
        assert isinstance(results[0], Unavailable)
        assert isinstance(results[1], OutcomeUnknown)

        async def answers() -> bool:
            try:
                return await db.fetch("SELECT 1", key=user) == [(1,)]
            except Unavailable:
                return False

        await wait_until(answers, what="the shard is used again")


async def test_callers_beyond_the_queue_are_refused_and_the_queued_are_served(
    cluster: Any,
) -> None:
    """G4: one connection, one place to wait."""
    user = one_on("shard-0")
    async with opened(cluster, size=1, waiting=1) as db:
        await db.fetch("SELECT 1", key=user)
        slow = asyncio.create_task(db.fetch("SELECT pg_sleep(0.3)", key=user))
        await asyncio.sleep(0)
        queued = asyncio.create_task(db.fetch("SELECT 2", key=user))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as refusal:
            await db.fetch("SELECT 3", key=user)
        assert refusal.value.stable_code == "pool_queue"
        await slow
        assert await queued == [(2,)]


async def test_a_cancelled_caller_loses_nobody_elses_connection(
    cluster: Any, wait_until: Wait
) -> None:
    """A waiter that goes gives its turn on; a reader that goes leaves the connection usable."""
    user = one_on("shard-0")
    async with opened(cluster, size=1) as db:
        await db.fetch("SELECT 1", key=user)
        running = asyncio.create_task(db.fetch("SELECT pg_sleep(30)", key=user))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(db.fetch("SELECT 2", key=user))
        last = asyncio.create_task(db.fetch("SELECT 3", key=user))

        async def runs() -> bool:
            # A cancel that overtakes its statement finds nothing to cancel.
            asked = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)'"
            return await asyncio.to_thread(cluster.execute, cluster.primary, asked) == 1

        await wait_until(runs, what="the server runs the statement")
        waiting.cancel()
        running.cancel()
        assert await last == [(3,)]
        outcomes = await asyncio.gather(running, waiting, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)


async def test_callers_who_come_and_go_leave_the_pool_whole(cluster: Any) -> None:
    """Eighty on two connections, half of them cancelled at any step: both stay in use."""
    user = one_on("shard-0")
    generator = random.Random(5)
    async with opened(cluster, size=2) as db:
        for _ in range(8):
            tasks = [asyncio.create_task(db.fetch("SELECT 1", key=user)) for _ in range(10)]
            for _ in range(generator.randrange(4)):
                await asyncio.sleep(0)
            for task in tasks:
                if generator.random() < 0.5:
                    task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(one == [(1,)] or isinstance(one, asyncio.CancelledError) for one in done)
        both = (db.fetch("SELECT pg_backend_pid()", key=user) for _ in range(2))
        assert len({rows[0][0] for rows in await asyncio.gather(*both)}) == 2


async def test_only_a_newer_placement_of_known_shards_is_taken(db: ShardedDatabase) -> None:
    """An old one is stale, one that names a stranger is refused, and the one in use stays."""
    with pytest.raises(Conflict) as stale:
        db.use(PLACEMENT)
    assert stale.value.stable_code == "shard_map_stale"
    with pytest.raises(InvalidInput) as unknown:
        db.use(Directory(PLACEMENT).pin("q-000", "shard-9"))
    assert unknown.value.stable_code == "shard_unknown"
    assert db.placement is PLACEMENT
    newer = HashPlacement(PLACEMENT.shard_map.moved(0, "shard-1"))
    db.use(newer)
    assert db.placement is newer


async def test_a_split_key_is_written_on_several_shards_and_read_as_one(
    db: ShardedDatabase,
) -> None:
    """A counter that everybody raises: what was counted before the split is still in the sum."""
    add = "INSERT INTO note VALUES (%s, 1) ON CONFLICT (k) DO UPDATE SET v = note.v + 1"
    keys = SplitKeys()
    for key in keys.split("counter", 8).reads_from("counter"):
        await db.execute("DELETE FROM note WHERE k = %s", (key,), key=key)
    for draw in range(20):
        if draw == 4:
            keys = keys.split("counter", 8)
        key = keys.writes_to("counter", draw)
        await db.execute(add, (key,), key=key)
    parts = keys.reads_from("counter")
    assert {db.placement.shard_of(key) for key in parts} == {"shard-0", "shard-1"}
    answer = await db.scatter(
        "SELECT sum(v)::bigint FROM note WHERE k = ANY(%s)",
        (list(parts),),
        merge=Aggregates((Fold.SUM,)),
        deadline_s=WAIT_S,
    )
    assert answer.rows == [(20,)]
