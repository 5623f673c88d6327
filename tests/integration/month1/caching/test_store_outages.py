"""Claims about a crowd whose Redis or Memcached dies, freezes, is flushed, and comes back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

import pytest

from month1_caching_gateway.caching import (
    Answer,
    CacheAside,
    Codec,
    LeasePolicy,
    MemcachedStore,
    Outcome,
    Policy,
    RedisStore,
    RemoteStore,
    Versioned,
)
from scalelab.clients import redis as redis_client
from scalelab.clients.memcached import Memcached as MemcachedClient
from scalelab.clock import SystemClock

if TYPE_CHECKING:
    from scalelab.lab.runtime import Runtime
    from scalelab.lab.servers import Memcached, Redis

BACK_ENDS = ("redis", "memcached")
QUIET = [f"quiet-{number}" for number in range(5)]
WRITTEN = [f"written-{number}" for number in range(5)]
CALLERS = 30
TIMEOUT_S = 0.2


class Table:
    """Rows whose value is their version; counts reads, and how many of a key run at once."""

    def __init__(self) -> None:
        self.versions = dict.fromkeys([*QUIET, *WRITTEN], 1)
        self.reads: Counter[str] = Counter()
        self.running: Counter[str] = Counter()
        self.most_running = 0

    async def read(self, keys: Sequence[str]) -> dict[str, Versioned[int]]:
        found = {key: Versioned(self.versions[key], self.versions[key]) for key in keys}
        self.reads.update(keys)
        self.running.update(keys)
        self.most_running = max(self.most_running, *(self.running[key] for key in QUIET))
        await asyncio.sleep(0.001)
        self.running.subtract(keys)
        return found


class Server:
    """A server of this test alone, by its kind, and how it breaks."""

    def __init__(self, kind: str, runtime: Runtime, request: pytest.FixtureRequest) -> None:
        self.kind = kind
        self.runtime = runtime
        if kind == "redis":
            self.redis: Redis = request.getfixturevalue("own_redis")
        else:
            self.memcached: Memcached = request.getfixturevalue("own_memcached")

    @asynccontextmanager
    async def store(self) -> AsyncIterator[RemoteStore]:
        """A store of one more process."""
        clock = SystemClock()
        if self.kind == "redis":
            client = redis_client.connect(
                self.redis.url, timeout_s=TIMEOUT_S, connect_timeout_s=TIMEOUT_S
            )
            yield RedisStore(client, namespace="crowd", clock=clock)
            await client.aclose()
        else:
            memcached = MemcachedClient(
                *self.memcached.address, timeout_s=TIMEOUT_S, connect_timeout_s=TIMEOUT_S
            )
            yield MemcachedStore(memcached, namespace="crowd", clock=clock)
            await memcached.aclose()

    async def flush(self) -> None:
        """Forget everything, as an operator would."""
        if self.kind == "redis":
            client = redis_client.connect(self.redis.url, timeout_s=10.0, connect_timeout_s=30.0)
            await client.flushall()
            await client.aclose()
        else:
            client = MemcachedClient(*self.memcached.address, timeout_s=10.0)
            assert await client.call([b"flush_all\r\n"]) == [b"OK"]
            await client.aclose()


@pytest.fixture(params=BACK_ENDS)
def server(request: pytest.FixtureRequest, own_runtime: Runtime) -> Server:
    """Each kind in turn."""
    return Server(request.param, own_runtime, request)


class Crowd:
    """Callers that never stop asking, one writer, and what they got."""

    def __init__(self, cache: CacheAside[int], table: Table) -> None:
        self.cache = cache
        self.table = table
        self.announced = dict(table.versions)
        self.outcomes: Counter[Outcome] = Counter()
        self.is_over = False
        self.may_write = asyncio.Event()
        self.may_write.set()
        self._answered = asyncio.Condition()
        self._total = 0

    async def caller(self, random: Random) -> None:
        while not self.is_over:
            key = random.choice([*QUIET, *WRITTEN])
            least = self.announced[key]
            answer: Answer[int] = await self.cache.get(key)
            assert answer.value is not None
            assert answer.value >= least, f"{key}: {answer} after version {least}"
            self.outcomes[answer.outcome] += 1
            self._total += 1
            async with self._answered:
                self._answered.notify_all()

    async def writer(self, random: Random) -> None:
        while not self.is_over:
            await self.may_write.wait()
            key = random.choice(WRITTEN)
            version = self.table.versions[key] + 1
            self.table.versions[key] = version
            await self.cache.bust(key, version)
            self.announced[key] = version
            await asyncio.sleep(0.002)

    async def answers(self, more: int, outcome: Outcome | None = None) -> None:
        """Return after so many more answers (of that outcome)."""

        def count() -> int:
            return self._total if outcome is None else self.outcomes[outcome]

        wanted = count() + more
        async with asyncio.timeout(40), self._answered:
            await self._answered.wait_for(lambda: count() >= wanted)


@pytest.mark.parametrize("fault", ["killed", "frozen", "flushed"])
async def test_a_crowd_is_answered_and_never_from_before_a_write(
    server: Server, fault: str
) -> None:
    """G1, G3: thirty callers and a writer go on through the fault and the return; every answer is
    at least what was announced when it was asked for; of a key nobody writes one load at a time."""
    table = Table()
    async with server.store() as store:
        cache: CacheAside[int] = CacheAside(
            table.read,
            store,
            Codec(lambda value: b"%d" % value, int),
            policy=Policy(),
            random=Random(1),
        )
        async with cache, asyncio.TaskGroup() as group:
            crowd = Crowd(cache, table)
            for number in range(CALLERS):
                group.create_task(crowd.caller(Random(number)))
            group.create_task(crowd.writer(Random(99)))
            await crowd.answers(200, Outcome.HIT)
            if fault == "killed":
                server.runtime.kill("cache")
                await crowd.answers(200, Outcome.BYPASS)
                await asyncio.to_thread(server.runtime.restart, "cache")
            elif fault == "frozen":
                server.runtime.pause("cache")
                await crowd.answers(200, Outcome.BYPASS)
                server.runtime.resume("cache")
            else:
                # A flush takes fences along: a load from before a write could then be stored. No
                # write is younger than the loads under way, so every answer can be judged.
                crowd.may_write.clear()
                await crowd.answers(10 * CALLERS)
                await server.flush()
                crowd.may_write.set()
            await crowd.answers(200, Outcome.HIT)
            crowd.is_over = True
    assert table.most_running == 1


async def test_a_server_that_comes_back_empty_is_filled_by_one_load_a_key(server: Server) -> None:
    """Two processes with 150 callers each find nothing at once; leases let one of all ask."""
    table = Table()
    leases = LeasePolicy(poll_s=0.005)
    async with server.store() as first, server.store() as second:
        caches = [
            CacheAside(
                table.read,
                store,
                Codec(lambda value: b"%d" % value, int),
                policy=Policy(),
                random=Random(1),
                leases=leases,
            )
            for store in (first, second)
        ]
        for cache in caches:
            await cache.get_many(QUIET)
        await server.flush()
        table.reads.clear()
        crowd = [cache.get(key) for cache in caches for key in QUIET for _ in range(30)]
        answers = await asyncio.gather(*crowd)
        assert {answer.value for answer in answers} == {1}
        assert table.reads == dict.fromkeys(QUIET, 1)
        for cache in caches:
            await cache.__aexit__(None, None, None)


async def test_a_dead_server_costs_one_time_out_and_one_load_for_a_thousand(
    server: Server,
) -> None:
    """A thousand callers on one key, the server frozen: all are answered, the source is asked
    once, and the store is asked once before the breaker stops it."""
    table = Table()
    async with server.store() as store:
        cache: CacheAside[int] = CacheAside(
            table.read,
            store,
            Codec(lambda value: b"%d" % value, int),
            policy=Policy(),
            random=Random(1),
        )
        async with cache:
            server.runtime.pause("cache")
            try:
                answers = await asyncio.gather(*(cache.get(QUIET[0]) for _ in range(1000)))
            finally:
                server.runtime.resume("cache")
    assert {(answer.value, answer.outcome) for answer in answers} == {(1, Outcome.BYPASS)}
    assert table.reads == {QUIET[0]: 1}
