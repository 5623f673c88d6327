"""Why there was no connection: all are lent, or the server is away."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

import pytest

from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.errors import Unavailable


async def _refusal(database: Database) -> Unavailable:
    with pytest.raises(Unavailable) as refusal:
        await database.ping(timeout_s=60.0)
    return refusal.value


async def test_who_waits_while_all_connections_are_lent_is_told_so(database_dsn: str) -> None:
    """G5: and when one is given back the next caller has it."""
    settings = PostgresSettings(database_dsn, pool_max=2, acquire_timeout_s=0.3)
    async with Database(settings, name="small") as database:
        async with AsyncExitStack() as held:
            for _ in range(2):
                await _eventually_held(database, held)
            refusal = await _refusal(database)
            assert refusal.stable_code == "pool_exhausted"
            assert "all 2 connections" in refusal.message
        async with asyncio.timeout(60):
            await _eventually_answers(database)


async def test_a_server_that_is_away_is_no_exhausted_pool(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """G5: nothing is lent, so nobody's transaction is to blame."""
    caplog.set_level(logging.CRITICAL, logger="psycopg.pool")
    nobody = "postgresql://nobody@127.0.0.1:1/none"
    settings = PostgresSettings(nobody, pool_max=2, acquire_timeout_s=0.3)
    async with Database(settings, name="away") as database:
        assert (await _refusal(database)).stable_code == "database_unavailable"


async def test_a_caller_that_fails_gives_its_connection_back(database_dsn: str) -> None:
    """A block that raises, or whose statement fails, is no longer counted as holding one."""
    settings = PostgresSettings(database_dsn, pool_max=1, acquire_timeout_s=30.0)
    async with Database(settings, name="small") as database:
        for _ in range(3):
            with pytest.raises(RuntimeError):
                async with database.transaction():
                    raise RuntimeError("in the block")
        await database.ping(timeout_s=60.0)


async def _eventually_held(database: Database, held: AsyncExitStack) -> None:
    """A short wait for a connection may end in vain on a busy machine: ask again."""
    async with asyncio.timeout(60):
        while True:
            try:
                await held.enter_async_context(database.transaction(timeout_s=120.0))
            except Unavailable:
                continue
            return


async def _eventually_answers(database: Database) -> None:
    while True:
        try:
            await database.ping(timeout_s=60.0)
        except Unavailable:
            continue
        return
