"""One suite for every rate algorithm in every store: memory, and a real Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from month1_caching_gateway.ratelimit import (
    RATE_ALGORITHMS,
    MemoryStore,
    Policy,
    RateAlgorithm,
    RedisStore,
    window_s,
)
from scalelab.clients.redis import connect
from scalelab.clock import SystemClock
from scalelab.errors import InvalidInput


@pytest.fixture(params=RATE_ALGORITHMS, ids=lambda one: one.name)
def algorithm(request: pytest.FixtureRequest) -> RateAlgorithm:
    return request.param


@pytest.fixture(params=["memory", "redis"])
async def store(
    request: pytest.FixtureRequest, algorithm: RateAlgorithm
) -> AsyncIterator[MemoryStore | RedisStore]:
    if request.param == "memory":
        yield MemoryStore(SystemClock(), algorithm=algorithm)
        return
    client = connect(request.getfixturevalue("redis_url"), timeout_s=10.0, connect_timeout_s=30.0)
    redis = RedisStore(client, deadline_s=10.0, algorithm=algorithm)
    yield redis
    await redis.aclose()
    await client.aclose()


@pytest.fixture
def key(unique: Callable[[], str]) -> str:
    return unique()


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> Callable[[], str]:
    numbers = iter(range(1000))
    return lambda: f"{request.node.name}:{time.monotonic_ns()}:{next(numbers)}"


async def test_a_new_key_has_its_whole_allowance(store: MemoryStore | RedisStore, key: str) -> None:
    """The burst is admitted, the next is refused with the time to wait."""
    policy = Policy(capacity=3, rate_per_s=1e-6)
    decisions = [await store.check(key, policy) for _ in range(4)]
    assert [one.admitted for one in decisions] == [True, True, True, False]
    assert [int(one.remaining) for one in decisions] == [2, 1, 0, 0]
    assert decisions[2].retry_after_s == 0.0
    assert 0 < decisions[3].retry_after_s <= 2 * window_s(policy)


async def test_keys_do_not_share_an_allowance(
    store: MemoryStore | RedisStore, unique: Callable[[], str]
) -> None:
    """One caller's burst is nobody else's business."""
    policy = Policy(capacity=1, rate_per_s=1e-6)
    one, other = unique(), unique()
    assert (await store.check(one, policy)).admitted
    assert not (await store.check(one, policy)).admitted
    assert (await store.check(other, policy)).admitted


async def test_a_dear_request_takes_its_cost(store: MemoryStore | RedisStore, key: str) -> None:
    """Cost 4 of 10, twice; the third is refused and takes nothing."""
    policy = Policy(capacity=10, rate_per_s=1e-6)
    assert [(await store.check(key, policy, cost=4)).admitted for _ in range(3)] == [
        True,
        True,
        False,
    ]
    assert (await store.check(key, policy, cost=2)).admitted


async def test_small_costs_from_a_large_bucket_are_not_rounded_away(
    store: MemoryStore | RedisStore, key: str
) -> None:
    """A store that keeps too few digits would give these tokens back."""
    policy = Policy(capacity=1000, rate_per_s=1e-6)
    await store.check(key, policy, cost=0.001)
    decision = await store.check(key, policy, cost=0.001)
    assert decision.remaining == pytest.approx(999.998, abs=1e-4)


async def test_an_allowance_comes_back(store: MemoryStore | RedisStore, key: str) -> None:
    """A refused caller who comes again and again is admitted once the policy allows it."""
    policy = Policy(capacity=1, rate_per_s=20)
    assert (await store.check(key, policy)).admitted
    async with asyncio.timeout(20):
        while not (decision := await store.check(key, policy)).admitted:
            assert 0 < decision.retry_after_s <= 2 * window_s(policy)
            await asyncio.sleep(decision.retry_after_s)


async def test_a_cost_above_the_capacity_is_a_mistake(
    store: MemoryStore | RedisStore, key: str
) -> None:
    """It could never be admitted; the caller's neighbours in a batch do not suffer."""
    policy = Policy(capacity=2, rate_per_s=1)
    good, bad = await asyncio.gather(
        store.check(key, policy), store.check(key, policy, cost=3), return_exceptions=True
    )
    assert not isinstance(good, BaseException)
    assert good.admitted
    assert isinstance(bad, InvalidInput)


async def test_a_thousand_checks_at_once_admit_no_more_than_the_bound(
    store: MemoryStore | RedisStore, algorithm: RateAlgorithm, unique: Callable[[], str]
) -> None:
    """I2 of each core under concurrency, over several keys and more checks than one batch holds."""
    policy = Policy(capacity=25, rate_per_s=1)
    keys = [unique() for _ in range(4)]
    began_s = time.monotonic()
    decisions = await asyncio.gather(*(store.check(keys[n % 4], policy) for n in range(1000)))
    took_s = time.monotonic() - began_s
    for at in range(4):
        admitted = sum(one.admitted for one in decisions[at::4])
        assert 25 <= admitted <= algorithm.bound(policy, took_s + 1e-6)
