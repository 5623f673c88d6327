"""A database with the read model's tables, and a projector's settings on a fresh topic."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest

from month3_messaging.readmodel import DDL, Projecting
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.telemetry import Telemetry
from tests.fixtures.databases import DatabaseOf


def _prepare(dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute(DDL.encode())


@pytest.fixture
def view_dsn(database_of: DatabaseOf) -> str:
    """A fresh database with the tables of generations."""
    return database_of(_prepare)


@pytest.fixture
async def views(view_dsn: str) -> AsyncIterator[Database]:
    """A client of it."""
    settings = PostgresSettings(view_dsn, acquire_timeout_s=20.0, statement_timeout_s=60.0)
    async with Database(settings, name="views") as opened:
        yield opened


@pytest.fixture
def offline(views: Database, telemetry: Telemetry) -> Projecting:
    """For tests that hand records over themselves; there is no broker behind it."""
    return Projecting(views, "127.0.0.1:1", "t", telemetry.log, lock_timeout_s=20.0)


@pytest.fixture
def work(views: Database, kafka_bootstrap: str, topic: str, telemetry: Telemetry) -> Projecting:
    """Small batches of a topic of three partitions."""
    return Projecting(
        views,
        kafka_bootstrap,
        topic,
        telemetry.log,
        batch=20,
        look_every_s=0.05,
        restart_s=0.05,
        lock_timeout_s=20.0,
    )
