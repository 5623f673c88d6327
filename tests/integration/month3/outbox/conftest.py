"""Relays that follow the log of the test's database."""

from __future__ import annotations

import pytest

from scalelab.clients.postgres import Database
from scalelab.lab.servers import Postgres
from scalelab.telemetry import Telemetry
from tests.integration.month3.relay_bed import Kind, Relays, slot_place


@pytest.fixture
def log_relays(
    database: Database,
    tables_dsn: str,
    telemetry: Telemetry,
    kafka_bootstrap: str,
    postgres_server: Postgres,
) -> Relays:
    place = slot_place(postgres_server, tables_dsn)
    return Relays(Kind.LOG, database, kafka_bootstrap, place, telemetry)
