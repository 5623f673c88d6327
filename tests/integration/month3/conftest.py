"""What month 3's tests on real servers share: a database with the tables, topics, telemetry."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import psycopg
import pytest

from month3_messaging import inbox, outbox
from month3_messaging.orders import MIGRATIONS
from scalelab.clients.kafka import ensure_topics
from scalelab.clients.migrations import upgrade
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.telemetry import Telemetry, TelemetrySettings, build_telemetry
from tests.fixtures.databases import DatabaseOf
from tests.integration.month3.orders_bed import Shop, open_shop


@pytest.fixture
def telemetry() -> Telemetry:
    return build_telemetry(TelemetrySettings(service="test"), stream=io.StringIO())


def _create_tables(dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute(outbox.DDL)
        conn.execute(inbox.DDL)
        conn.execute(
            "CREATE TABLE effect (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
            " event_id uuid, key text, number int)"
        )


def _migrate_orders(dsn: str) -> None:
    upgrade(dsn, MIGRATIONS)


@pytest.fixture
def tables_dsn(database_of: DatabaseOf) -> str:
    """A fresh database with outbox, inbox and a table for effects."""
    return database_of(_create_tables)


@pytest.fixture
async def database(tables_dsn: str) -> AsyncIterator[Database]:
    async with Database(PostgresSettings(tables_dsn), name="test") as opened:
        yield opened


@pytest.fixture
async def topic(kafka_bootstrap: str, topic_prefix: str) -> str:
    """A fresh topic of three partitions."""
    name = f"{topic_prefix}things"
    await ensure_topics(kafka_bootstrap, {name: 3})
    return name


@pytest.fixture
def orders_dsn(database_of: DatabaseOf) -> str:
    """A fresh database that the orders' migrations have been run on."""
    return database_of(_migrate_orders)


@pytest.fixture
async def orders_database(orders_dsn: str) -> AsyncIterator[Database]:
    """A client of it."""
    settings = PostgresSettings(orders_dsn, pool_max=12, acquire_timeout_s=10.0)
    async with Database(settings, name="shard-x") as opened:
        yield opened


@pytest.fixture
async def shop(orders_database: Database) -> AsyncIterator[Shop]:
    """A running orders service."""
    async with open_shop(orders_database) as opened:
        yield opened
