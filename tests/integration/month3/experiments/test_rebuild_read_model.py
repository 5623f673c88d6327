"""What rebuild-read-model counts, on the session's servers."""

from __future__ import annotations

import psycopg
import pytest

from month3_messaging.experiments.rebuild_read_model import NAMES, compare, judged
from month3_messaging.readmodel import DDL
from tests.fixtures.databases import DatabaseOf


def _prepare(dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute(DDL.encode())


@pytest.mark.timeout(240)
async def test_the_ways_to_rebuild_differ_as_claimed(
    database_of: DatabaseOf, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Every claim, at a size at which a batch is a few records."""
    dsns = {name: database_of(_prepare) for name in NAMES}
    tallies = await compare(dsns, kafka_bootstrap, f"{topic_prefix}rebuild", 8)
    assert [claim for claim in judged(tallies).shape if not claim.holds] == []
