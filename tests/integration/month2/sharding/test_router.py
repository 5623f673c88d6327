"""The router against real shards: own reads are never stale, and a dead shard is a small thing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from month2_databases.replication import ConsistencyToken, sign, verify
from month2_databases.sharding import (
    PoolSizes,
    Reason,
    Role,
    RouterMetrics,
    ServerSettings,
    ShardRouter,
    ShardSettings,
)
from scalelab.clock import SystemClock
from scalelab.errors import Conflict, InvalidInput, Unavailable
from scalelab.ids import routed_uuid7

Wait = Callable[..., Awaitable[None]]
KEY = b"a secret of the tests"


@pytest.fixture
async def router(cluster: Any) -> AsyncIterator[ShardRouter]:
    replica = ServerSettings("shard-0-r1", cluster.dsn(cluster.replica))
    shards = [
        ShardSettings("shard-0", cluster.dsn(cluster.primary), (replica,)),
        ShardSettings("shard-1", cluster.dsn(cluster.lone)),
    ]
    pools = PoolSizes(primary_max=4, replica_max=4, primary_wait_s=0.5)
    async with ShardRouter(shards, token_keys=[KEY], clock=SystemClock(), pools=pools) as made:
        yield made


def user_of(router: ShardRouter, shard: str, salt: str = "") -> str:
    return next(
        user
        for user in (f"user-{salt}-{n}" for n in range(1000))
        if router.shard_of_user(user) == shard
    )


async def write(router: ShardRouter, user: str, value: int) -> str:
    session = router.session_for_user(user)
    async with session as conn:
        await conn.execute(
            "INSERT INTO note VALUES (%s, %s) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
            (user, value),
        )
    assert session.token is not None
    return session.token


async def read(router: ShardRouter, user: str, token: str | None) -> tuple[int | None, Any]:
    session = router.read_session(user_id=user, token=token)
    async with session as conn:
        cursor = await conn.execute("SELECT v FROM note WHERE k = %s", (user,))
        row = await cursor.fetchone()
    return (row[0] if row else None), session


@contextmanager
def replay_paused(cluster: Any) -> Iterator[None]:
    cluster.execute(cluster.replica, "SELECT pg_wal_replay_pause()")
    try:
        yield
    finally:
        cluster.execute(cluster.replica, "SELECT pg_wal_replay_resume()")


async def test_a_user_and_their_orders_live_on_one_shard(router: ShardRouter) -> None:
    """An order id made with the user's slot routes to where the user routes."""
    for n in range(50):
        user = f"user-{n}"
        order_id = routed_uuid7(router.slot_of_user(user), datetime.now(UTC))
        assert router.shard_of_order(order_id) == router.shard_of_user(user)
    assert {router.shard_of_user(f"user-{n}") for n in range(50)} == {"shard-0", "shard-1"}


async def test_own_reads_are_never_stale_and_come_to_use_the_replica(
    router: ShardRouter, wait_until: Wait
) -> None:
    """Write and read at once, many times: always the value; and the replica serves once it can."""
    user = user_of(router, "shard-0", "loop")
    roles: set[Role] = set()
    for value in range(150):
        token = await write(router, user, value)
        seen, session = await read(router, user, token)
        assert seen == value
        roles.add(session.role)
    token = await write(router, user, 1000)

    async def replica_serves() -> bool:
        seen, session = await read(router, user, token)
        assert seen == 1000
        return session.role is Role.REPLICA and session.reason is Reason.CAUGHT_UP

    await wait_until(replica_serves, what="the replica answers an own read")
    assert Role.PRIMARY in roles or Role.REPLICA in roles


async def test_with_replay_paused_own_reads_go_to_the_primary_and_others_to_the_replica(
    cluster: Any, router: ShardRouter, wait_until: Wait
) -> None:
    """The writer sees every write; a stranger sees the old value, from the replica."""
    user = user_of(router, "shard-0", "paused")
    token = await write(router, user, -1)

    async def replayed() -> bool:
        return (await read(router, user, token))[1].role is Role.REPLICA

    await wait_until(replayed, what="the replica has the first value")
    with replay_paused(cluster):
        for value in range(50):
            token = await write(router, user, value)
            seen, own = await read(router, user, token)
            assert (seen, own.role, own.reason) == (value, Role.PRIMARY, Reason.BEHIND)
            stale, other = await read(router, user, None)
            assert (stale, other.role, other.server_name) == (-1, Role.REPLICA, "shard-0-r1")


@pytest.mark.parametrize(
    "token",
    [
        "v1.shard-0.1.1.AAAAAAAAAAAAAAAAAAAAAA",
        "rubbish",
        sign(ConsistencyToken("shard-1", 1, 1), KEY),
        sign(ConsistencyToken("shard-0", 1, 1), b"another secret, long"),
    ],
)
async def test_a_token_that_is_not_ours_reads_the_primary(
    router: ShardRouter, token: str, wait_until: Wait
) -> None:
    """G2: forged, malformed, of another shard or key; never an error."""
    user = user_of(router, "shard-0", "forged")
    await write(router, user, 1)
    seen, session = await read(router, user, token)
    assert (seen, session.role, session.reason) == (1, Role.PRIMARY, Reason.TOKEN_REFUSED)


async def test_an_empty_token_asks_for_the_primary(router: ShardRouter) -> None:
    """A reader may want the last word without having a token; that is no refusal."""
    user = user_of(router, "shard-0", "asking")
    await write(router, user, 1)
    seen, session = await read(router, user, "")
    assert (seen, session.role, session.reason) == (1, Role.PRIMARY, Reason.ASKED_FOR)


async def test_a_token_of_another_timeline_reads_the_primary(
    router: ShardRouter, wait_until: Wait
) -> None:
    """After a failover positions start anew: a smaller number proves nothing."""
    user = user_of(router, "shard-0", "timeline")
    genuine = verify(await write(router, user, 1), [KEY])
    assert genuine is not None
    assert genuine.timeline == 1

    async def any_replica() -> bool:
        return (await read(router, user, None))[1].role is Role.REPLICA

    await wait_until(any_replica, what="a live replica")
    other = sign(ConsistencyToken("shard-0", genuine.timeline + 1, 1), KEY)
    seen, session = await read(router, user, other)
    assert (seen, session.role) == (1, Role.PRIMARY)


async def test_a_dead_shard_fails_only_its_own_keys(
    cluster: Any, router: ShardRouter, wait_until: Wait
) -> None:
    """Its users get Unavailable with a time to come back, soon without waiting; others go on."""
    here, there = user_of(router, "shard-0"), user_of(router, "shard-1")
    await write(router, there, 1)
    await asyncio.to_thread(cluster.runtime.kill, "shard-1")
    try:
        codes: list[str] = []
        for value in range(12):
            with pytest.raises(Unavailable) as refusal:
                await write(router, there, value)
            assert refusal.value.retry_after_s > 0
            codes.append(refusal.value.stable_code)
            await write(router, here, value)
        assert "shard_unavailable" in codes
    finally:
        await asyncio.to_thread(cluster.runtime.restart, "shard-1")

    async def back() -> bool:
        try:
            await write(router, there, 99)
        except Unavailable:
            return False
        return True

    await wait_until(back, what="the shard is used again")
    assert (await read(router, there, None))[0] == 99


async def test_without_its_primary_a_shard_still_answers_reads_of_its_replica(
    cluster: Any, router: ShardRouter, wait_until: Wait
) -> None:
    """A covered token and no token are served; a token beyond the replica fails, never stale."""
    user = user_of(router, "shard-0", "orphan")
    token = await write(router, user, 7)

    async def covered() -> bool:
        return (await read(router, user, token))[1].role is Role.REPLICA

    await wait_until(covered, what="the replica has it")
    wanted = verify(token, [KEY])
    assert wanted is not None
    ahead = sign(ConsistencyToken("shard-0", wanted.timeline, wanted.lsn + 10**9), KEY)
    await asyncio.to_thread(cluster.runtime.kill, "shard-0")
    try:
        assert (await read(router, user, token))[0] == 7
        assert (await read(router, user, None))[0] == 7
        with pytest.raises(Unavailable):
            await read(router, user, ahead)
    finally:
        await asyncio.to_thread(cluster.runtime.restart, "shard-0")


async def test_without_its_replica_a_shard_reads_its_primary(
    cluster: Any, router: ShardRouter, wait_until: Wait
) -> None:
    """No error in between: what was on its way to the dead replica goes to the primary."""
    user = user_of(router, "shard-0", "no-replica")
    token = await write(router, user, 3)
    await asyncio.to_thread(cluster.runtime.kill, "shard-0-r1")
    try:
        for _ in range(20):
            assert (await read(router, user, token))[0] == 3
            seen, session = await read(router, user, None)
            assert (seen, session.role) == (3, Role.PRIMARY)
    finally:
        await asyncio.to_thread(cluster.runtime.restart, "shard-0-r1")


async def test_a_block_that_raises_changes_nothing_and_gives_no_token(router: ShardRouter) -> None:
    """Rolled back on the primary; the error comes out as it was."""
    user = user_of(router, "shard-0", "rollback")
    session = router.session_for_user(user)

    async def change_of_mind() -> None:
        async with session as conn:
            await conn.execute("INSERT INTO note VALUES (%s, 1)", (user,))
            raise Conflict("changed my mind")

    with pytest.raises(Conflict, match="changed my mind"):
        await change_of_mind()
    assert session.token is None
    assert (await read(router, user, None))[0] is None


async def test_reads_and_writes_are_counted_by_server(cluster: Any, router: ShardRouter) -> None:
    """The hook's metrics name shard, server, role and reason."""
    registry = CollectorRegistry()
    shards = [ShardSettings("shard-1", cluster.dsn(cluster.lone))]
    metrics = RouterMetrics(registry)
    clock = SystemClock()
    async with ShardRouter(shards, token_keys=[KEY], clock=clock, hooks=[metrics]) as counted:
        await write(counted, "somebody", 1)
        await read(counted, "somebody", None)
    labels = {"shard": "shard-1", "server": "shard-1", "role": "primary", "reason": "no_replica"}
    assert registry.get_sample_value("shard_reads_total", labels) == 1
    written = {"shard": "shard-1", "result": "ok"}
    assert registry.get_sample_value("shard_writes_total", written) == 1


async def test_a_read_for_nobody_or_for_two_is_refused(router: ShardRouter) -> None:
    """Exactly one of order and user says where to read."""
    with pytest.raises(InvalidInput):
        router.read_session()
