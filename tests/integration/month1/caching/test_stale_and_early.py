"""Claims about values past their time and loads before it, on a real Redis with virtual time.

The store's lifetime counts on Redis' clock and is long; what is fresh is judged by the process's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from random import Random

import pytest

from month1_caching_gateway.caching import (
    Answer,
    CacheAside,
    CacheEvent,
    Codec,
    LeasePolicy,
    Lru,
    Outcome,
    Policy,
    ProcessTier,
    RedisStore,
    RefreshFailed,
    Versioned,
)
from scalelab.clients import redis as redis_client
from scalelab.clock import ManualClock
from scalelab.errors import Unavailable

STALE = Policy(ttl_s=60.0, jitter=0.0, stale_while_revalidate_s=30.0, stale_if_error_s=300.0)


class Bench:
    """A cache over one row, a source that can fail or take (virtual) time, all loads counted."""

    def __init__(self, url: str) -> None:
        self.clock = ManualClock()
        self.client = redis_client.connect(url, timeout_s=10.0, connect_timeout_s=30.0)
        self.rows = {"a": Versioned("one", 1)}
        self.reads = 0
        self.takes_s = 0.0
        self.error: Exception | None = None
        self.events: list[CacheEvent] = []
        self._read = asyncio.Semaphore(0)

    def process(
        self,
        policy: Policy,
        *,
        leases: LeasePolicy | None = None,
        near: ProcessTier[Answer[str]] | None = None,
    ) -> CacheAside[str]:
        return CacheAside(
            self.read,
            RedisStore(self.client, namespace="stale", clock=self.clock),
            Codec(str.encode, bytes.decode),
            policy=policy,
            random=Random(5),
            leases=leases,
            near=near,
            hook=self.events.append,
        )

    async def read(self, keys: Sequence[str]) -> dict[str, Versioned[str]]:
        self.reads += 1
        self.clock.advance(self.takes_s)
        self._read.release()
        if self.error is not None:
            raise self.error
        return {key: self.rows[key] for key in keys if key in self.rows}

    async def has_read(self) -> None:
        async with asyncio.timeout(20):
            await self._read.acquire()


@pytest.fixture
async def bench(redis_url: str) -> AsyncIterator[Bench]:
    made = Bench(redis_url)
    yield made
    await made.client.aclose()


async def _becomes(cache: CacheAside[str], value: str) -> Answer[str]:
    async with asyncio.timeout(20):
        while True:
            answer = await cache.get("a")
            if answer.value == value:
                return answer
            await asyncio.sleep(0.005)


async def test_a_value_past_its_time_is_served_at_once_and_loaded_behind(bench: Bench) -> None:
    """Nobody waits for the source; the next reader has the new value."""
    async with bench.process(STALE) as cache:
        await cache.get("a")
        await bench.has_read()
        bench.rows["a"] = Versioned("two", 2)
        bench.clock.advance(61.0)
        answer = await cache.get("a")
        assert (answer.value, answer.outcome) == ("one", Outcome.STALE)
        assert (await _becomes(cache, "two")).outcome is Outcome.HIT
        assert bench.reads == 2


async def test_a_crowd_on_a_stale_value_loads_it_once(bench: Bench) -> None:
    """A hundred readers are served the old one, the source is asked once."""
    async with bench.process(STALE) as cache:
        await cache.get("a")
        bench.clock.advance(61.0)
        answers = await asyncio.gather(*(cache.get("a") for _ in range(100)))
        assert {answer.outcome for answer in answers} == {Outcome.STALE}
        async with asyncio.timeout(20):
            while (await cache.get("a")).outcome is not Outcome.HIT:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert bench.reads == 2


async def test_with_leases_one_process_of_all_loads_behind(bench: Bench) -> None:
    """Five processes notice; whoever has the lease loads, the others leave it to it."""
    leases = LeasePolicy(poll_s=0.005)
    caches = [bench.process(STALE, leases=leases) for _ in range(5)]
    await caches[0].get("a")
    await bench.has_read()
    hold = await bench.client.set("lease:stale:a", "somebody", px=60_000)
    assert hold
    bench.clock.advance(61.0)
    answers = await asyncio.gather(*(cache.get("a") for cache in caches))
    assert {answer.outcome for answer in answers} == {Outcome.STALE}
    for cache in caches:
        await cache.__aexit__(None, None, None)
    assert bench.reads == 1
    await bench.client.delete("lease:stale:a")
    async with bench.process(STALE, leases=leases) as last:
        assert (await last.get("a")).outcome is Outcome.STALE
        await bench.has_read()


async def test_a_source_that_fails_leaves_the_old_value_standing(bench: Bench) -> None:
    """Stale if error: past the first stale time the source is asked, and its failure is covered."""
    async with bench.process(STALE) as cache:
        await cache.get("a")
        bench.error = Unavailable("the source is away", code="away")
        bench.clock.advance(60.0 + 100.0)
        for _ in range(3):
            answer = await cache.get("a")
            assert (answer.value, answer.outcome) == ("one", Outcome.STALE)
        assert bench.reads == 4
        bench.clock.advance(300.0)
        with pytest.raises(Unavailable):
            await cache.get("a")


async def test_a_failed_load_behind_is_told_and_nothing_changes(bench: Bench) -> None:
    """The readers never hear of it."""
    async with bench.process(STALE) as cache:
        await cache.get("a")
        await bench.has_read()
        bench.error = Unavailable("the source is away", code="away")
        bench.clock.advance(61.0)
        assert (await cache.get("a")).outcome is Outcome.STALE
        await bench.has_read()
        async with asyncio.timeout(20):
            while RefreshFailed(1, "away") not in bench.events:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert (await cache.get("a")).value == "one"


async def test_a_write_ends_every_stale_time(bench: Bench) -> None:
    """G4: what a write has outdated is not served, although the source fails."""
    async with bench.process(STALE) as cache:
        await cache.get("a")
        await cache.bust("a", 2)
        bench.error = Unavailable("the source is away")
        with pytest.raises(Unavailable):
            await cache.get("a")


async def test_a_stale_value_does_not_come_to_stand_near(bench: Bench) -> None:
    """A tier keeps what is fresh, and no longer than that."""
    near: ProcessTier[Answer[str]] = ProcessTier(
        Lru(10), ttl_s=3600.0, clock=bench.clock, is_told=False
    )
    async with bench.process(STALE, near=near) as cache:
        await cache.get("a")
        assert (await cache.get("a")).outcome is Outcome.NEAR
        bench.clock.advance(61.0)
        bench.error = Unavailable("the source is away")
        assert (await cache.get("a")).outcome is Outcome.STALE
        assert cache.get_now("a") is None


async def test_popular_values_are_loaded_before_they_end(bench: Bench) -> None:
    """XFetch: a load takes 2 s; readers every 0.1 s (virtual) never see a miss, and loads are few.

    With beta 0 the same walk misses once a lifetime.
    """
    misses: dict[float, int] = {}
    for beta in (0.0, 1.0):
        policy = Policy(ttl_s=20.0, jitter=0.0, early_beta=beta, stale_while_revalidate_s=0.001)
        await bench.client.flushdb()
        bench.takes_s, bench.reads = 2.0, 0
        async with bench.process(policy) as cache:
            await cache.get("a")
            bench.events.clear()
            for _ in range(500):
                answer = await cache.get("a")
                if answer.outcome is not Outcome.HIT:
                    misses[beta] = misses.get(beta, 0) + 1
                while cache._refreshes._tasks:  # noqa: ASYNC110 - no time passes meanwhile
                    await asyncio.sleep(0)
                bench.clock.advance(0.2)
        assert 5 <= bench.reads <= 12
    assert misses[0.0] >= 4
    assert misses.get(1.0, 0) == 0
