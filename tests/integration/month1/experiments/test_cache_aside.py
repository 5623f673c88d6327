"""The experiment `cache-aside`: its stale reads and loads are exact counts."""

from __future__ import annotations

from random import Random

import pytest

from month1_caching_gateway.experiments.cache_aside import (
    Counted,
    Deleting,
    Fencing,
    NoCache,
    Table,
    TtlOnly,
    expected_ratio,
    hit_ratio,
    staleness,
    zipf,
)
from scalelab.clients import redis as redis_client


@pytest.mark.parametrize(
    ("kind", "stale", "loads"),
    [(NoCache, 0, 72), (TtlOnly, 60, 12), (Deleting, 20, 20), (Fencing, 0, 24)],
)
async def test_only_fences_have_hits_and_no_stale_read(
    redis_url: str, kind: type[NoCache | TtlOnly | Fencing], stale: int, loads: int
) -> None:
    """Twelve writes, in four of them a reader stands in between."""
    client = redis_client.connect(redis_url, timeout_s=10.0, connect_timeout_s=30.0)
    table = Table()
    counted = await staleness(kind(table, client), table, writes=12, races=4)
    await client.aclose()
    assert counted == Counted(reads=72, stale=stale, loads=loads)


async def test_hits_come_close_to_the_theory(redis_url: str) -> None:
    """A short walk: time is counted in requests, so the share is the same on every machine."""
    client = redis_client.connect(redis_url, timeout_s=10.0, connect_timeout_s=30.0)
    ratio = await hit_ratio(client, skew=1.2, write_share=0.1, requests=800, random=Random(2))
    await client.aclose()
    assert ratio == pytest.approx(expected_ratio(1.2, 0.1), abs=0.08)


@pytest.mark.parametrize("skew", [0.0, 1.2])
def test_the_theory_without_writes_is_the_limit_of_the_one_with_few(skew: float) -> None:
    """And shares of keys are shares."""
    assert sum(zipf(skew)) == pytest.approx(1.0)
    assert expected_ratio(skew, 1e-9) == pytest.approx(expected_ratio(skew, 0.0), abs=1e-6)
    assert expected_ratio(skew, 0.5) < expected_ratio(skew, 0.0)
