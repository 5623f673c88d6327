"""Commits wait for the replica while there is one, and not for ever when there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from month2_databases.replication import (
    GuardPolicy,
    Mode,
    SyncGuard,
    SyncMetrics,
    SyncModeChanged,
    grants_for,
)
from scalelab.clients.postgres import CommitPosition, Database, PostgresSettings
from scalelab.clock import SystemClock

Wait = Callable[..., Awaitable[None]]
POLICY = GuardPolicy(alone_limit_s=0.5, suspect_after_s=2.5)


@pytest.fixture
def guard_dsn(cluster: Any) -> Iterator[str]:
    """A role that has the granted privileges and nothing more; on old servers the superuser."""
    if int(str(cluster.execute(cluster.primary, "SHOW server_version_num"))) < 150000:
        yield cluster.primary.superuser_dsn()
    else:
        dsn = cluster.primary.ensure_database("guard", "guard")
        for grant in grants_for("guard"):
            cluster.execute(cluster.primary, grant, database="guard")
        yield dsn
    cluster.execute(cluster.primary, "ALTER SYSTEM SET synchronous_standby_names = ''")
    cluster.execute(cluster.primary, "SELECT pg_reload_conf()")


def guard_of(cluster: Any, dsn: str, events: list[SyncModeChanged]) -> SyncGuard:
    return SyncGuard(
        "shard-0",
        dsn,
        [cluster.replica.application_name],
        clock=SystemClock(),
        policy=POLICY,
        interval_s=0.05,
        hooks=[events.append],
    )


async def write(database: Database, key: str) -> CommitPosition:
    position = CommitPosition()
    async with database.transaction(position=position) as conn:
        await conn.execute(
            "INSERT INTO note VALUES (%s, 1) ON CONFLICT (k) DO UPDATE SET v = note.v + 1", (key,)
        )
    return position


def waits_for_replica(cluster: Any) -> bool:
    waiting = cluster.execute(
        cluster.primary, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    )
    return waiting == 1


async def test_commits_wait_for_the_replica_and_go_on_when_it_stays_away(
    cluster: Any, guard_dsn: str, wait_until: Wait
) -> None:
    """Replica up: an acknowledged commit is on it. Gone: commits wait, then go on. Back: again."""
    events: list[SyncModeChanged] = []
    registry = CollectorRegistry()
    metrics = SyncMetrics(registry)
    orders = Database(PostgresSettings(cluster.dsn(cluster.primary)), name="shard-0")
    async with guard_of(cluster, guard_dsn, events) as guard, orders:
        await wait_until(lambda: guard.mode is Mode.SYNCHRONOUS, what="synchronous at the start")
        assert guard.trouble is None
        position = await write(orders, "while synchronous")
        flushed = cluster.execute(
            cluster.replica, "SELECT (pg_last_wal_receive_lsn() - '0/0'::pg_lsn)::bigint"
        )
        assert position.lsn is not None
        # The commit record ends at or before the position; one page header may lie between.
        assert flushed >= position.lsn - 40

        await asyncio.to_thread(cluster.runtime.stop, cluster.replica.name)
        try:
            writing = asyncio.create_task(write(orders, "while the replica is away"))
            await wait_until(lambda: waits_for_replica(cluster), what="a commit that waits")
            assert not writing.done()
            await writing
            await wait_until(lambda: guard.degraded, what="degraded is reported")
        finally:
            await asyncio.to_thread(cluster.runtime.restart, cluster.replica.name)
        await wait_until(lambda: guard.mode is Mode.SYNCHRONOUS, what="synchronous again")
    for event in events:
        metrics(event)
    assert [event.mode for event in events] == [Mode.SYNCHRONOUS, Mode.DEGRADED, Mode.SYNCHRONOUS]
    assert registry.get_sample_value("shard_degraded", {"shard": "shard-0"}) == 0


async def test_a_replica_that_hangs_is_given_up_like_one_that_is_gone(
    cluster: Any, guard_dsn: str, wait_until: Wait
) -> None:
    """A stopped process keeps its connection open; silence gives it away."""
    orders = Database(PostgresSettings(cluster.dsn(cluster.primary)), name="shard-0")
    async with guard_of(cluster, guard_dsn, []) as guard, orders:
        await wait_until(lambda: guard.mode is Mode.SYNCHRONOUS, what="synchronous at the start")
        cluster.runtime.pause(cluster.replica.name)
        try:
            await write(orders, "while the replica hangs")
            await wait_until(lambda: guard.degraded, what="degraded is reported")
        finally:
            cluster.runtime.resume(cluster.replica.name)
        await wait_until(lambda: guard.mode is Mode.SYNCHRONOUS, what="synchronous again")


async def test_one_guard_is_active_and_the_next_takes_over(
    cluster: Any, guard_dsn: str, wait_until: Wait
) -> None:
    """The advisory lock decides; the one that waits sees no mode and sets nothing."""
    first, second = guard_of(cluster, guard_dsn, []), guard_of(cluster, guard_dsn, [])
    async with second:
        async with first:
            await wait_until(lambda: bool(first.mode or second.mode), what="one is active")
            active, waiting = (first, second) if first.mode else (second, first)
            await wait_until(lambda: active.mode is Mode.SYNCHRONOUS, what="it guards")
            assert waiting.mode is None
        await wait_until(lambda: second.mode is Mode.SYNCHRONOUS, what="the other one guards")
