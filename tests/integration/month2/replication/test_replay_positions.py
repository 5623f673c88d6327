"""Positions follow the replicas, and end when a replica is none any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg

from month2_databases.replication import ReplayPositions
from scalelab.clock import SystemClock

Wait = Callable[..., Awaitable[None]]


def replaying(cluster: Any) -> ReplayPositions:
    dsn = cluster.dsn(cluster.replica)
    return ReplayPositions({"r1": dsn}, clock=SystemClock(), interval_s=0.02)


async def test_a_position_follows_replay_and_stands_still_with_it(
    cluster: Any, wait_until: Wait
) -> None:
    """An ordinary role sees the timeline and the position; a paused replay does not move."""
    async with replaying(cluster) as positions:
        await wait_until(lambda: positions.position("r1") is not None, what="a position")
        before = positions.position("r1")
        assert before is not None
        assert before.timeline == 1
        cluster.execute(cluster.primary, "INSERT INTO note VALUES ('p', 1) ON CONFLICT DO NOTHING")
        cluster.execute(cluster.primary, "SELECT pg_switch_wal()")

        def moved() -> bool:
            now = positions.position("r1")
            return now is not None and now.lsn > before.lsn

        await wait_until(moved, what="the position moves")


async def test_a_replica_that_stops_answering_has_no_position(
    cluster: Any, wait_until: Wait
) -> None:
    """Hung, then stopped, then back: None, None, a position."""
    async with replaying(cluster) as positions:
        await wait_until(lambda: positions.position("r1") is not None, what="a position")
        cluster.runtime.pause("shard-0-r1")
        try:
            await wait_until(lambda: positions.position("r1") is None, what="none while it hangs")
        finally:
            cluster.runtime.resume("shard-0-r1")
        await wait_until(lambda: positions.position("r1") is not None, what="a position again")
        await asyncio.to_thread(cluster.runtime.stop, "shard-0-r1")
        try:
            await wait_until(lambda: positions.position("r1") is None, what="none while it is off")
        finally:
            await asyncio.to_thread(cluster.runtime.restart, "shard-0-r1")
        await wait_until(lambda: positions.position("r1") is not None, what="a position at last")


async def test_a_promoted_replica_has_no_position(server_root: Path, wait_until: Wait) -> None:
    """It goes its own way from there: what it has is no lower bound of what the primary has."""
    from scalelab.lab.runtime import Runtime
    from scalelab.lab.servers import Postgres

    with Runtime(server_root / "promotion", private=True, is_disposable=True) as runtime:
        primary = Postgres("old", settings={"fsync": "off"})
        await asyncio.to_thread(runtime.start, primary)
        replica = primary.add_replica("new")
        await asyncio.to_thread(runtime.start, replica)
        followed = {"new": replica.superuser_dsn()}
        async with ReplayPositions(followed, clock=SystemClock(), interval_s=0.02) as positions:
            await wait_until(lambda: positions.position("new") is not None, what="a position")
            with psycopg.connect(replica.superuser_dsn(), autocommit=True) as conn:
                conn.execute("SELECT pg_promote()")
            await wait_until(lambda: positions.position("new") is None, what="none once promoted")
