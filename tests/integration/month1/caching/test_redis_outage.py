"""Claims about a Redis that dies, hangs and comes back: no request fails, nothing old returns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

from month1_caching_gateway.caching import (
    CacheAside,
    CacheEvent,
    Codec,
    Entry,
    FencesWaiting,
    Kind,
    Outcome,
    Policy,
    RedisStore,
    StoreFailed,
    Versioned,
)
from month1_caching_gateway.caching.entries import encode
from scalelab.clients import redis as redis_client
from scalelab.clock import ManualClock

if TYPE_CHECKING:
    from scalelab.lab.runtime import Runtime
    from scalelab.lab.servers import Redis

OPEN_S = 1.0
"""As long as the breaker stays open (BREAKER in redis_store.py)."""


class Shop:
    """A cache over one row, its clock, its source's reads and its events."""

    def __init__(self, url: str, clock: ManualClock, timeout_s: float) -> None:
        self.clock = clock
        self.rows = {"a": Versioned("old", 1)}
        self.reads = 0
        self.events: list[CacheEvent] = []
        self.client = redis_client.connect(
            url, timeout_s=timeout_s, connect_timeout_s=timeout_s, max_connections=64
        )
        self.store = RedisStore(
            self.client, namespace="shop", clock=clock, hook=self.events.append, waiting_limit=3
        )
        self.cache: CacheAside[str] = CacheAside(
            self.read,
            self.store,
            Codec(str.encode, bytes.decode),
            policy=Policy(),
            random=Random(1),
        )

    async def read(self, keys: Sequence[str]) -> dict[str, Versioned[str]]:
        self.reads += 1
        await asyncio.sleep(0)
        return {key: self.rows[key] for key in keys if key in self.rows}

    def failures(self) -> int:
        return sum(isinstance(event, StoreFailed) for event in self.events)


@asynccontextmanager
async def shop(url: str, *, timeout_s: float = 5.0) -> AsyncIterator[Shop]:
    opened = Shop(url, ManualClock(), timeout_s)
    async with opened.cache:
        yield opened
    await opened.client.aclose()


async def test_a_dead_redis_fails_no_lookup_and_is_asked_once_a_second(
    own_runtime: Runtime, own_redis: Redis
) -> None:
    """G1: killed mid-way, every answer comes from the source, and the breaker saves the asking."""
    async with shop(own_redis.url) as opened:
        assert (await opened.cache.get("a")).outcome is Outcome.MISS
        assert (await opened.cache.get("a")).outcome is Outcome.HIT
        own_runtime.kill("cache")
        opened.clock.advance(5.0)
        answers = [await opened.cache.get("a") for _ in range(50)]
        assert {(answer.value, answer.outcome) for answer in answers} == {("old", Outcome.BYPASS)}
        assert opened.failures() == 1
        opened.clock.advance(OPEN_S)
        assert (await opened.cache.get("a")).value == "old"
        assert opened.failures() == 2


async def test_a_hanging_redis_costs_one_time_out_not_one_each(
    own_runtime: Runtime, own_redis: Redis
) -> None:
    """Frozen, it answers nobody: one caller waits, the rest go straight to the source."""
    async with shop(own_redis.url, timeout_s=0.1) as opened:
        await opened.cache.get("a")
        own_runtime.pause("cache")
        try:
            opened.clock.advance(5.0)
            answers = [await opened.cache.get("a") for _ in range(50)]
        finally:
            own_runtime.resume("cache")
        assert {answer.outcome for answer in answers} == {Outcome.BYPASS}
        assert opened.failures() == 1


async def test_a_write_during_the_outage_is_not_undone_by_the_return(
    own_runtime: Runtime, own_redis: Redis
) -> None:
    """G3: Redis comes back with the old value on its disk; the fence is delivered before it can
    be served."""
    async with shop(own_redis.url) as opened:
        await opened.cache.get("a")
        own_runtime.kill("cache")
        opened.clock.advance(5.0)
        opened.rows["a"] = Versioned("new", 2)
        assert not await opened.cache.bust("a", 2)
        assert (await opened.cache.get("a")).value == "new"
        own_runtime.restart("cache")
        assert await opened.client.get("shop:a") == encode(Entry(Kind.VALUE, 1, b"old"))
        opened.clock.advance(OPEN_S)
        after = [await opened.cache.get("a") for _ in range(3)]
        assert {answer.value for answer in after} == {"new"}
        assert after[-1].outcome is Outcome.HIT
        assert opened.events[-1] == FencesWaiting(0)


async def test_a_recovering_redis_is_tried_by_one_caller(
    own_runtime: Runtime, own_redis: Redis
) -> None:
    """A crowd at the moment of return: one asks Redis, all get an answer, few reads of the
    source."""
    async with shop(own_redis.url) as opened:
        own_runtime.kill("cache")
        await opened.cache.get("a")
        own_runtime.restart("cache")
        opened.clock.advance(OPEN_S)
        before, reads = await _mgets(opened), opened.reads
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(opened.cache.get("a")) for _ in range(20)]
        assert {task.result().value for task in asked} == {"old"}
        assert await _mgets(opened) == before + 1
        assert opened.reads - reads <= 2
        await opened.cache.get("a")
        assert (await opened.cache.get("a")).outcome is Outcome.HIT


async def test_waiting_fences_are_bounded_and_the_loss_is_told(
    own_runtime: Runtime, own_redis: Redis
) -> None:
    """The oldest is given up, counted, and left to its lifetime."""
    async with shop(own_redis.url) as opened:
        own_runtime.kill("cache")
        for number in range(5):
            await opened.cache.bust(f"key-{number}", 7)
        told = [event for event in opened.events if isinstance(event, FencesWaiting)]
        assert [event.waiting for event in told] == [1, 2, 3, 3, 3]
        assert sum(event.dropped for event in told) == 2


async def _mgets(opened: Shop) -> int:
    stats = await opened.client.info("commandstats")
    return int(stats.get("cmdstat_mget", {}).get("calls", 0))
