"""A migrated payments database, and a provider over real HTTP with its own book."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

import month6_capstone.payments
from month6_capstone.payments.provider_client import ProviderClient
from scalelab.clients.http import HttpClient
from scalelab.clients.migrations import upgrade
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import ManualClock
from tests.fixtures.databases import DatabaseOf
from tests.integration.month6.payments.running_provider import RunningProvider, provider_on


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncGenerator[RunningProvider]:
    async with provider_on(tmp_path / "provider" / "book.jsonl") as running:
        yield running


@pytest.fixture
async def provider_client(provider: RunningProvider) -> AsyncGenerator[ProviderClient]:
    """A client without a guard: one attempt, with all the time in the world."""
    async with HttpClient(provider.url, timeout_s=30) as http:
        yield ProviderClient(http)


@pytest.fixture
async def impatient_client(provider: RunningProvider) -> AsyncGenerator[ProviderClient]:
    """One attempt that gives the silent card up soon."""
    async with HttpClient(provider.url, timeout_s=1.5) as http:
        yield ProviderClient(http)


def _migrate(dsn: str) -> None:
    upgrade(dsn, Path(month6_capstone.payments.__file__).parent / "migrations")


@pytest.fixture
async def database(database_of: DatabaseOf) -> AsyncGenerator[Database]:
    settings = PostgresSettings(database_of(_migrate), pool_max=8, acquire_timeout_s=20)
    async with Database(settings, name="payments") as database:
        yield database
