"""A migrated, empty inventory database for each test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

import month6_capstone.inventory
from scalelab.clients.migrations import upgrade
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def database(database_dsn: str) -> AsyncGenerator[Database]:
    """The database behind the service, with a pool wide enough for races."""
    upgrade(database_dsn, Path(month6_capstone.inventory.__file__).parent / "migrations")
    settings = PostgresSettings(database_dsn, pool_max=12, acquire_timeout_s=20)
    async with Database(settings, name="inventory") as database:
        yield database
