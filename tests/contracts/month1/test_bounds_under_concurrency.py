"""Real Redis, several clients at once: no window admits more than the algorithm's stated bound."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from month1_caching_gateway.ratelimit import RATE_ALGORITHMS, Policy, RateAlgorithm, RedisStore
from scalelab.clients.redis import connect


@pytest.mark.parametrize("algorithm", RATE_ALGORITHMS, ids=lambda one: one.name)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    capacity=st.integers(1, 20),
    window_ms=st.integers(20, 200),
    bursts=st.lists(
        st.tuples(st.integers(1, 40), st.sampled_from([0.0, 0.1, 0.6, 1.0])),
        min_size=3,
        max_size=8,
    ),
    clients=st.integers(2, 4),
)
def test_no_window_admits_more_than_the_bound(
    redis_url: str,
    algorithm: RateAlgorithm,
    capacity: int,
    window_ms: int,
    bursts: list[tuple[int, float]],
    clients: int,
) -> None:
    """I2 of each core between any two bursts. A check was decided between its burst's sending and
    the last answer, so from sending to answer is at least the window the server saw."""
    policy = Policy(float(capacity), capacity / window_ms * 1000)
    admitted = asyncio.run(_offer(redis_url, algorithm, policy, bursts, clients))
    for first in range(len(admitted)):
        total = 0
        for count, _, answered_s in admitted[first:]:
            total += count
            t_s = answered_s - admitted[first][1]
            assert total <= algorithm.bound(policy, t_s * 1.001 + 1e-5) + 1e-6
    assert admitted[0][0] >= min(bursts[0][0], capacity)


async def _offer(
    url: str,
    algorithm: RateAlgorithm,
    policy: Policy,
    bursts: list[tuple[int, float]],
    clients: int,
) -> list[tuple[int, float, float]]:
    """For each burst: how many were admitted, when it was sent and when it was answered."""
    opened = [connect(url, timeout_s=10.0, connect_timeout_s=30.0) for _ in range(clients)]
    stores = [RedisStore(one, deadline_s=10.0, max_batch=8, algorithm=algorithm) for one in opened]
    key = f"bound:{time.monotonic_ns()}"
    seen: list[tuple[int, float, float]] = []
    for size, gap in bursts:
        sent_s = time.monotonic()
        checks = (stores[number % clients].check(key, policy) for number in range(size))
        decisions = await asyncio.gather(*checks)
        seen.append((sum(one.admitted for one in decisions), sent_s, time.monotonic()))
        await asyncio.sleep(gap * policy.capacity / policy.rate_per_s)
    for store in stores:
        await store.aclose()
    for one in opened:
        await one.aclose()
    return seen
