"""The experiment `redis-vs-memcached`: each claim is judged on what was counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from month1_caching_gateway.experiments.redis_vs_memcached import Counted, judge

REDIS = Counted(320.0, 1000, 250, 200, 10, 0, (1.0, 2.0, 3.0))
MEMCACHED = Counted(240.0, 1000, 350, 200, 0, 1, (1.0, 2.0, 3.0))


def failing(redis: Counted, memcached: Counted, *, failed: int = 1, first: int = 1) -> int:
    """How many claims do not hold."""
    counted = {"redis": redis, "memcached": memcached}
    result = judge(counted, items=10, failed=failed, first=first)
    return sum(not claim.holds for claim in result.shape)


def test_what_was_seen_holds() -> None:
    """The control of the cases below."""
    assert failing(REDIS, MEMCACHED) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        replace(MEMCACHED, reads_per_s=(100.0,) * 3),
        replace(MEMCACHED, bytes_an_item=400.0),
        replace(MEMCACHED, kept=1000),
        replace(MEMCACHED, hot_kept=100),
        replace(MEMCACHED, restarted=1),
        replace(MEMCACHED, late_stored=0),
    ],
)
def test_each_count_can_break_one_claim(wrong: Counted) -> None:
    """No claim holds whatever was measured."""
    assert failing(REDIS, wrong) == 1


@pytest.mark.parametrize(("failed", "first"), [(0, 1), (5, 0)])
def test_a_full_redis_must_refuse_and_keep(failed: int, first: int) -> None:
    """Both halves of the claim count."""
    assert failing(REDIS, MEMCACHED, failed=failed, first=first) == 1
