"""The fast path says why it has no connection: all are lent, or none can be had."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import pytest

from month2_databases.sharding.shard_pool import FastSettings, ShardPool
from scalelab.clock import SystemClock
from scalelab.errors import Unavailable

SETTINGS = FastSettings(size=1, timeout_s=60.0, connect_timeout_s=60.0)


async def refusal(pool: ShardPool) -> Unavailable:
    with pytest.raises(Unavailable) as refused:
        await pool.fetch("SELECT 2", timeout_s=0.3)
    return refused.value


async def test_who_waits_while_all_connections_are_lent_is_told_so(database_dsn: str) -> None:
    """And the next caller has the one that came back."""
    async with ShardPool(database_dsn, name="a", settings=SETTINGS, clock=SystemClock()) as pool:
        await pool.fetch("SELECT 1")
        slow = asyncio.create_task(pool.fetch("SELECT pg_sleep(50)"))
        await asyncio.sleep(0)  # it has taken the idle connection
        refused = await refusal(pool)
        assert refused.stable_code == "pool_exhausted"
        assert "all 1 connections to a" in refused.message
        slow.cancel()
        with suppress(asyncio.CancelledError):
            await slow
        assert await pool.fetch("SELECT 3") == [(3,)]


async def test_a_server_that_does_not_let_us_in_is_no_exhausted_pool() -> None:
    """The one place is taken by an attempt, so nobody's statement is to blame."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        dsn = f"postgresql://nobody@127.0.0.1:{deaf.getsockname()[1]}/none"
        async with ShardPool(dsn, name="deaf", settings=SETTINGS, clock=SystemClock()) as pool:
            first = asyncio.create_task(pool.fetch("SELECT 1"))
            await asyncio.sleep(0)
            assert (await refusal(pool)).stable_code == "database_unavailable"
            first.cancel()
            with suppress(asyncio.CancelledError):
                await first
