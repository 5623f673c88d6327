"""What the relays' contract suite shares: a database with the tables, a topic, both kinds."""

from __future__ import annotations

import pytest

from scalelab.clients.postgres import Database
from scalelab.lab.servers import Postgres
from scalelab.telemetry import Telemetry
from tests.integration.month3.conftest import database, tables_dsn, telemetry, topic
from tests.integration.month3.relay_bed import Kind, Relays, slot_place

__all__ = ["database", "tables_dsn", "telemetry", "topic"]


@pytest.fixture(params=list(Kind), ids=str)
def relays(
    request: pytest.FixtureRequest,
    database: Database,
    tables_dsn: str,
    telemetry: Telemetry,
    kafka_bootstrap: str,
    postgres_server: Postgres,
) -> Relays:
    """Relays of either kind."""
    place = slot_place(postgres_server, tables_dsn)
    return Relays(request.param, database, kafka_bootstrap, place, telemetry)
