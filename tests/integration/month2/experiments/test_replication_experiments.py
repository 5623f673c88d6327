"""What the experiments of this room count is counted right, on real servers and small."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from month2_databases.experiments.read_scaling import (
    BUFFERS_MB,
    RESERVED,
    expected_hits,
    knock,
)
from month2_databases.experiments.replicated import KEY, start_replicated
from month2_databases.experiments.replication_lag import (
    Backwards,
    after_writes,
    backwards,
    require,
    waiting,
)
from month2_databases.experiments.wal_fsync import SETUPS, Setup, commit_all, kill, syncs
from month2_databases.replication import (
    ANY_REPLICA,
    MONOTONIC_READS,
    READ_YOUR_WRITES,
    SessionRouter,
)
from scalelab.clock import SystemClock
from scalelab.lab.course.experiment import Lab
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Postgres


@pytest.fixture
def lab(server_root: Path, tmp_path: Path) -> Iterator[Lab]:
    """A lab of this test alone."""
    with Runtime(server_root / tmp_path.name, private=True) as runtime:
        yield Lab(quick=True, runtime=runtime, folder=tmp_path, seed=1, note=lambda _: None)


@pytest.mark.parametrize(("setup", "takes_back"), [(SETUPS[0], False), (SETUPS[2], True)])
def test_a_kill_takes_back_what_was_answered_before_the_sync(
    lab: Lab, setup: Setup, *, takes_back: bool
) -> None:
    """Most of forty with the log's writer frozen; none where each commit was synced."""
    server = Postgres("killed", settings={"autovacuum": "off", **setup.settings})
    lab.runtime.start(server)
    dsn = server.ensure_database("journal", "journal")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE entry (v int)")
    acknowledged, lost = kill(lab, server, dsn, 160)
    assert acknowledged == 40
    assert lost > 20 if takes_back else lost == 0


async def test_the_server_counts_one_sync_for_each_lone_commit(lab: Lab) -> None:
    """And no more than a few of its own."""
    server = Postgres("counted", settings={"autovacuum": "off"})
    await asyncio.to_thread(lab.runtime.start, server)
    dsn = server.ensure_database("journal", "journal")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE entry (v int)")
    with psycopg.connect(server.superuser_dsn(), autocommit=True) as watching:
        before = syncs(watching)
        assert len(await commit_all(dsn, 1, 50)) == 50
        ended = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'journal'"
        while watching.execute(ended).fetchone() != (0,):
            watching.execute("SELECT pg_sleep(0.01)")
        assert 50 <= syncs(watching) - before <= 60


async def test_lag_is_seen_by_who_may_see_it(lab: Lab) -> None:
    """Replay half a second late: any replica is stale, own reads are not, waiting commits leave
    nothing stale, and a monotonic reader's counter never goes down."""
    made = await asyncio.to_thread(
        start_replicated, lab.runtime, "lag", settings={"synchronous_commit": "local"}
    )
    router = SessionRouter(made.settings, token_keys=[KEY], clock=SystemClock())
    async with router:
        async with asyncio.timeout(60):
            known = 0
            while known < 2:
                await asyncio.sleep(0.02)
                known = sum(view.position is not None for view in router.cluster.views())
        for number in (1, 2):
            await asyncio.to_thread(made.cluster.delay_replay, number, 5000)
        own = await after_writes(router, READ_YOUR_WRITES, wait_ms=0, writers=3)
        assert (own.stale, own.on_replicas) == (0, 0)
        naive = await after_writes(router, ANY_REPLICA, wait_ms=0, writers=3)
        assert naive.stale == 3
        await asyncio.to_thread(made.cluster.delay_replay, 2, 0)
        walk = await backwards(router, MONOTONIC_READS, reads=20)
        assert walk == Backwards(20, 0)
        await asyncio.to_thread(made.cluster.delay_replay, 1, 0)
        await asyncio.to_thread(require, made, all_of_them=True)
        held = await waiting(router, commits=3, wait=True)
        assert held.stale == 0


async def test_connections_end_at_an_exact_number(lab: Lab) -> None:
    """Eight, less what is kept for superusers; the others are refused."""
    server = Postgres("crowded", settings={"max_connections": "8"})
    await asyncio.to_thread(lab.runtime.start, server)
    dsn = server.ensure_database("crowd", "crowd")
    assert await knock(dsn) == 8 - RESERVED


def test_buffers_hold_at_most_the_table() -> None:
    """The theory's line ends at one."""
    shares = [expected_hits(mb) for mb in BUFFERS_MB]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
