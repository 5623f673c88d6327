"""A desk on a database of its own, and processes of its bed that die where they are told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from month3_messaging.deadletters import Desk, migrate
from month3_messaging.experiments.mortal_process import TABLES, Bed, desk_of
from month3_messaging.experiments.mortals import Mortals
from scalelab.clients.postgres import Database, PostgresSettings
from tests.fixtures.databases import DatabaseOf


def _prepare(dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute(TABLES.encode())
    migrate(dsn)


@pytest.fixture
def bed(database_of: DatabaseOf, kafka_bootstrap: str, topic: str) -> Bed:
    """Tables of producer, consumer and desk, and a fresh topic."""
    return Bed(database_of(_prepare), kafka_bootstrap, topic, f"{topic}.group")


@pytest.fixture
def mortals(bed: Bed) -> Iterator[Mortals]:
    """Starts its processes."""
    with Mortals(bed) as running:
        yield running


@pytest.fixture
async def bed_database(bed: Bed) -> AsyncIterator[Database]:
    """The bed's database."""
    async with Database(PostgresSettings(bed.dsn), name="bed") as opened:
        yield opened


@pytest.fixture
def desk(bed: Bed, bed_database: Database) -> Desk:
    """The desk of the bed's group."""
    return desk_of(bed, bed_database)
