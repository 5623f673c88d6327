"""Sessions of SQLAlchemy say why they have no connection: all are lent, or none can be had."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from sqlalchemy import ColumnElement, Select, literal_column, select

from month2_databases.replication import PRIMARY_ONLY, ClusterSettings, PoolSizes, SessionRouter
from month2_databases.replication.sqlalchemy_sessions import SqlSessions
from scalelab.clock import SystemClock
from scalelab.errors import Unavailable

ONE = cast("Select[int]", select(cast("ColumnElement[int]", literal_column("1"))))
SIZES = PoolSizes(primary_write=1, primary_read=1, wait_s=0.3)


@asynccontextmanager
async def opened(dsn: str) -> AsyncGenerator[tuple[SessionRouter, SqlSessions]]:
    settings = ClusterSettings("lone", dsn)
    router = SessionRouter(settings, token_keys=[b"a secret of the tests"], clock=SystemClock())
    async with router, SqlSessions(router, settings, pools=SIZES) as sessions:
        yield router, sessions


async def read(router: SessionRouter, sessions: SqlSessions) -> int:
    async with sessions.read(router.session(), PRIMARY_ONLY) as reading:
        return (await reading.scalars(ONE))[0]


async def write(router: SessionRouter, sessions: SqlSessions) -> None:
    async with sessions.write(router.session()) as session:
        await session.execute(ONE)


async def test_who_waits_while_all_connections_are_lent_is_told_so(database_dsn: str) -> None:
    """Reads and writes have their own; the next caller has the one that came back."""
    async with opened(database_dsn) as (router, sessions):
        async with sessions.read(router.session(), PRIMARY_ONLY) as held:
            await held.scalars(ONE)
            with pytest.raises(Unavailable) as refused:
                await read(router, sessions)
            await write(router, sessions)
        assert refused.value.stable_code == "pool_exhausted"
        assert "all 1 connections to lone" in refused.value.message
        assert await read(router, sessions) == 1
        async with sessions.write(router.session()):
            with pytest.raises(Unavailable) as refused:
                await write(router, sessions)
        assert refused.value.stable_code == "pool_exhausted"


async def test_a_block_that_raises_gives_its_connection_back(database_dsn: str) -> None:
    """It is no longer counted as lent."""
    async with opened(database_dsn) as (router, sessions):
        for _ in range(3):
            with pytest.raises(RuntimeError):
                async with sessions.write(router.session()):
                    raise RuntimeError("in the block")
        await write(router, sessions)


async def test_a_server_that_does_not_let_us_in_is_no_exhausted_pool() -> None:
    """The one place is taken by an attempt, so nobody's transaction is to blame."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        dsn = f"postgresql://nobody@127.0.0.1:{deaf.getsockname()[1]}/none"
        async with opened(dsn) as (router, sessions):
            both = (read(router, sessions) for _ in range(2))
            for outcome in await asyncio.gather(*both, return_exceptions=True):
                assert isinstance(outcome, Unavailable)
                assert outcome.stable_code == "database_unavailable"
