"""A migrated, empty inventory database for each test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

import month6_capstone.inventory
from scalelab.clients.migrations import upgrade
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import ManualClock
from tests.fixtures.databases import DatabaseOf


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def _migrate(dsn: str) -> None:
    upgrade(dsn, Path(month6_capstone.inventory.__file__).parent / "migrations")


@pytest.fixture
async def database(database_of: DatabaseOf) -> AsyncGenerator[Database]:
    """The database behind the service, with a pool wide enough for races."""
    settings = PostgresSettings(database_of(_migrate), pool_max=12, acquire_timeout_s=20)
    async with Database(settings, name="inventory") as database:
        yield database
