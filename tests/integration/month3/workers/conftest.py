"""A handler with effects for the tests of this room."""

from __future__ import annotations

import pytest

from scalelab.clients.postgres import Database
from tests.integration.month3.workers.effects_bed import Effects


@pytest.fixture
def effects(database: Database, topic_prefix: str) -> Effects:
    return Effects(database, f"{topic_prefix}group")
