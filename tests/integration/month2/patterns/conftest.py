"""A database for each test of this room."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from scalelab.clients.postgres import Database, PostgresSettings


@pytest.fixture
async def database(database_dsn: str) -> AsyncIterator[Database]:
    """An empty database, with room for a dozen sessions and patience for a busy machine."""
    settings = PostgresSettings(
        database_dsn,
        pool_max=12,
        acquire_timeout_s=60.0,
        connect_timeout_s=60.0,
        statement_timeout_s=60.0,
        transaction_timeout_s=90.0,
    )
    async with Database(settings, name="patterns") as opened:
        yield opened
