"""The concurrency limit in every store: memory, and a real Redis shared by several clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from month1_caching_gateway.ratelimit import (
    CONCURRENCY,
    Asker,
    ConcurrencyLimit,
    LeaseAsk,
    LeasePolicy,
    MemoryTable,
    RedisBatches,
)
from scalelab.clients.redis import connect
from scalelab.clock import SystemClock
from scalelab.errors import InvalidInput, Overloaded


@pytest.fixture(params=["memory", "redis"])
async def leases(request: pytest.FixtureRequest) -> AsyncIterator[list[Asker[LeaseAsk]]]:
    """Three ways to the same leases: for Redis, three clients as three processes would have."""
    if request.param == "memory":
        yield [MemoryTable(SystemClock(), CONCURRENCY)] * 3
        return
    url = request.getfixturevalue("redis_url")
    clients = [connect(url, timeout_s=10.0, connect_timeout_s=30.0) for _ in range(3)]
    batches = [
        RedisBatches(one, CONCURRENCY, prefix="leases:", deadline_s=10.0, max_batch=8)
        for one in clients
    ]
    yield list(batches)
    for one in batches:
        await one.aclose()
    for client in clients:
        await client.aclose()


async def test_slots_are_given_once_and_given_back(leases: list[Asker[LeaseAsk]]) -> None:
    """Two of two, the third is refused until one is released; release may be repeated."""
    limit = ConcurrencyLimit(leases[0], LeasePolicy(2, lease_s=600.0))
    assert (await limit.acquire("k", "a")).remaining == 1
    assert (await limit.acquire("k", "b")).remaining == 0
    refused = await limit.acquire("k", "c")
    assert not refused.admitted
    assert 0 < refused.retry_after_s <= 600
    assert (await limit.acquire("other", "c")).admitted
    assert [await limit.release("k", "a") for _ in range(3)] == [True, False, False]
    assert (await limit.acquire("k", "c")).admitted
    assert not (await limit.acquire("k", "d")).admitted


async def test_acquiring_again_renews_and_takes_no_second_slot(
    leases: list[Asker[LeaseAsk]],
) -> None:
    """A retry after an unknown outcome costs nothing."""
    limit = ConcurrencyLimit(leases[0], LeasePolicy(2, lease_s=600.0))
    for _ in range(3):
        assert (await limit.acquire("k", "a")).remaining == 1


async def test_a_holder_that_dies_blocks_its_slot_only_until_the_lease_ends(
    leases: list[Asker[LeaseAsk]],
) -> None:
    """Nobody releases; the next one is admitted all the same. A late release harms nobody."""
    limit = ConcurrencyLimit(leases[0], LeasePolicy(1, lease_s=0.05))
    assert (await limit.acquire("k", "dead")).admitted
    async with asyncio.timeout(20):
        decision = await limit.acquire("k", "next")
        while not decision.admitted:
            await asyncio.sleep(decision.retry_after_s)
            decision = await limit.acquire("k", "next")
    patient = ConcurrencyLimit(leases[1], LeasePolicy(1, lease_s=600.0))
    assert (await patient.acquire("k", "next")).admitted
    assert not await patient.release("k", "dead")
    assert not (await patient.acquire("k", "third")).admitted


async def test_never_more_holders_than_slots_over_all_clients(
    leases: list[Asker[LeaseAsk]],
) -> None:
    """I1 under concurrency: 120 workers through three clients, four slots; all finish at last."""
    policy = LeasePolicy(4, lease_s=600.0)
    inside = most = 0

    async def work(number: int) -> None:
        nonlocal inside, most
        limit = ConcurrencyLimit(leases[number % 3], policy)
        while True:
            try:
                async with limit.hold("k"):
                    inside += 1
                    most = max(most, inside)
                    await asyncio.sleep(0)
                    inside -= 1
                    return
            except Overloaded:
                await asyncio.sleep(0)

    async with asyncio.timeout(60):
        await asyncio.gather(*(work(number) for number in range(120)))
    assert 1 <= most <= 4


async def test_an_empty_id_is_a_mistake(leases: list[Asker[LeaseAsk]]) -> None:
    """Two holders would share it."""
    with pytest.raises(InvalidInput):
        await ConcurrencyLimit(leases[0], LeasePolicy(1, 1.0)).acquire("k", "")
