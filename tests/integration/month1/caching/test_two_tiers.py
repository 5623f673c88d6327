"""Claims about a tier in the process in front of Redis: others' writes arrive, or it is passed by.

Two caches over one table and one Redis are two processes: nothing but Redis connects them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

import pytest

from month1_caching_gateway.caching import (
    Answer,
    CacheAside,
    CacheEvent,
    Codec,
    FillRefused,
    Hearing,
    HearingChanged,
    Invalidations,
    KnownKeys,
    Lru,
    Mode,
    Outcome,
    Policy,
    ProcessTier,
    RedisStore,
    Versioned,
)
from scalelab.clients import redis as redis_client
from scalelab.clock import SystemClock

if TYPE_CHECKING:
    from scalelab.lab.runtime import Runtime
    from scalelab.lab.servers import Redis

HEARING = Hearing(heartbeat_s=0.1, silence_s=2.0)
BOTH = pytest.mark.parametrize("mode", list(Mode))


class Table:
    """Rows that all processes share; a read can be held after it has taken its rows."""

    def __init__(self) -> None:
        self.rows: dict[str, Versioned[str]] = {"a": Versioned("v1", 1)}
        self.reads = 0
        self.hold: asyncio.Event | None = None
        self._read = asyncio.Semaphore(0)

    def write(self, key: str) -> int:
        version = self.rows[key].version + 1 if key in self.rows else 1
        self.rows[key] = Versioned(f"v{version}", version)
        return version

    async def read(self, keys: Sequence[str]) -> dict[str, Versioned[str]]:
        self.reads += 1
        found = {key: self.rows[key] for key in keys if key in self.rows}
        if (hold := self.hold) is not None:
            self._read.release()
            await hold.wait()
        return found

    async def has_read(self) -> None:
        async with asyncio.timeout(20):
            await self._read.acquire()


class Process:
    """One process: its cache, its tier, its filter and what its hook heard."""

    def __init__(self, url: str, table: Table, mode: Mode) -> None:
        self.clock = SystemClock()
        self.events: list[CacheEvent] = []
        self.client = redis_client.connect(url, timeout_s=1.0, connect_timeout_s=1.0)
        hook = self.events.append
        self.tier: ProcessTier[Answer[str]] = ProcessTier(
            Lru(1000), ttl_s=3600.0, clock=self.clock, is_told=True
        )
        self.known = KnownKeys(100, clock=self.clock, is_told=True)
        self.cache: CacheAside[str] = CacheAside(
            table.read,
            RedisStore(self.client, namespace="near", clock=self.clock, hook=hook),
            Codec(str.encode, bytes.decode),
            policy=Policy(),
            random=Random(1),
            near=self.tier,
            known=self.known,
            hook=hook,
        )
        self.invalidations = Invalidations(
            self.client,
            namespace="near",
            mode=mode,
            listeners=[self.tier, self.known],
            clock=self.clock,
            hearing=HEARING,
            hook=hook,
        )

    def heard(self) -> list[bool]:
        return [event.hears for event in self.events if isinstance(event, HearingChanged)]

    async def near(self, key: str = "a") -> Answer[str]:
        """Ask until the answer comes from this process's tier."""
        async with asyncio.timeout(20):
            while True:
                answer = await self.cache.get(key)
                if answer.outcome is Outcome.NEAR:
                    return answer
                await asyncio.sleep(0.005)


@asynccontextmanager
async def processes(
    url: str, mode: Mode, count: int = 2
) -> AsyncIterator[tuple[Table, list[Process]]]:
    table = Table()
    made = [Process(url, table, mode) for _ in range(count)]
    for process in made:
        await process.cache.__aenter__()
        await process.invalidations.__aenter__()
    for process in made:
        await until(lambda process=process: process.tier.is_trusted)
    try:
        yield table, made
    finally:
        for process in made:
            await process.invalidations.__aexit__(None, None, None)
            await process.cache.__aexit__(None, None, None)
            await process.client.aclose()


async def until(claim: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not claim():  # noqa: ASYNC110 - what is awaited happens in another party
            await asyncio.sleep(0.005)


@BOTH
async def test_a_standing_answer_costs_no_trip(redis_url: str, mode: Mode) -> None:
    """`get_now` finds what `get` left; it finds nothing else."""
    async with processes(redis_url, mode, 1) as (table, (one,)):
        assert one.cache.get_now("a") is None
        assert (await one.near()).value == "v1"
        answer = one.cache.get_now("a")
        assert answer is not None
        assert (answer.value, answer.outcome, table.reads) == ("v1", Outcome.NEAR, 1)


@BOTH
async def test_a_write_of_another_process_arrives(redis_url: str, mode: Mode) -> None:
    """T1, usual case: the old answer goes away by itself, the next look finds the new one."""
    async with processes(redis_url, mode) as (table, (reader, writer)):
        for version in range(2, 12):
            await reader.near()
            assert await writer.cache.bust("a", table.write("a"))
            await until(lambda: reader.cache.get_now("a") is None)
            assert (await reader.cache.get("a")).value == f"v{version}"


@BOTH
async def test_a_written_through_value_arrives_as_well(redis_url: str, mode: Mode) -> None:
    """`replace` announces as `bust` does, and the source is not asked again."""
    async with processes(redis_url, mode) as (table, (reader, writer)):
        await reader.near()
        reads, version = table.reads, table.write("a")
        assert await writer.cache.replace("a", Versioned("v2", version))
        await until(lambda: reader.cache.get_now("a") is None)
        assert (await reader.cache.get("a")).value == "v2"
        assert table.reads == reads


@BOTH
async def test_an_old_read_does_not_come_to_stand_in_any_tier(redis_url: str, mode: Mode) -> None:
    """The stale-fill race through both tiers: read old, another process commits and busts, fill."""
    async with processes(redis_url, mode) as (table, (reader, writer)):
        for number in range(20):
            key = f"key-{number}"
            table.write(key)
            table.hold = asyncio.Event()
            reading = asyncio.create_task(reader.cache.get(key))
            await table.has_read()
            assert await writer.cache.bust(key, table.write(key))
            table.hold.set()
            assert (await reading).value == "v1"
            table.hold = None
            assert (await reader.cache.get(key)).value == "v2"
            assert (await reader.near(key)).value == "v2"
        assert sum(isinstance(event, FillRefused) for event in reader.events) == 20


@BOTH
async def test_a_process_never_reads_behind_its_own_write(redis_url: str, mode: Mode) -> None:
    """G2 with a tier: after `bust` returned, this process has nothing older, at once."""
    async with processes(redis_url, mode, 1) as (table, (one,)):
        for version in range(2, 30):
            await one.near()
            await one.cache.bust("a", table.write("a"))
            assert (await one.cache.get("a")).value == f"v{version}"


@BOTH
async def test_a_flushed_redis_empties_the_tier_or_leaves_it_true(
    redis_url: str, mode: Mode
) -> None:
    """Tracking tells of it; the channel does not, and what stands is still what the table has."""
    async with processes(redis_url, mode) as (table, (reader, writer)):
        await reader.near()
        await reader.client.flushdb()
        if mode is Mode.TRACKING:
            await until(lambda: reader.heard()[1:2] == [False])
        assert (await reader.near()).value == "v1"
        assert await writer.cache.bust("a", table.write("a"))
        await until(lambda: reader.cache.get_now("a") is None)
        assert (await reader.cache.get("a")).value == "v2"


@BOTH
async def test_a_lost_connection_empties_the_tier_until_there_is_another(
    redis_url: str, mode: Mode
) -> None:
    """Its connection is cut on the server; a write in the gap is not covered afterwards."""
    async with processes(redis_url, mode) as (table, (reader, writer)):
        await reader.near()
        await _cut_listeners(reader)
        await until(lambda: reader.heard()[:2] == [True, False])
        await writer.cache.bust("a", table.write("a"))
        assert (await reader.cache.get("a")).value == "v2"
        assert (await reader.near()).value == "v2"
        assert reader.heard()[:3] == [True, False, True]


@BOTH
async def test_a_killed_redis_leaves_nothing_old(
    own_runtime: Runtime, own_redis: Redis, mode: Mode
) -> None:
    """Gone at once, the tier is empty; back with its old file, the write of the gap holds."""
    async with processes(own_redis.url, mode) as (table, (reader, writer)):
        await reader.near()
        own_runtime.kill("cache")
        await until(lambda: not reader.tier.is_trusted)
        assert not await writer.cache.bust("a", table.write("a"))
        assert (await reader.cache.get("a")).value == "v2"
        assert reader.cache.get_now("a") is None
        own_runtime.restart("cache")
        # The writer delivers its fence with the first command it may send again.
        async with asyncio.timeout(20):
            while (await writer.cache.get("a")).outcome is Outcome.BYPASS:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await until(lambda: reader.tier.is_trusted)
        assert (await reader.near()).value == "v2"


@BOTH
async def test_a_frozen_redis_is_believed_no_longer_than_its_silence(
    own_runtime: Runtime, own_redis: Redis, mode: Mode
) -> None:
    """T1: no connection breaks, no word comes. What was proven before the freeze lasts silence_s;
    each look is judged by the instant before it, so a slow machine cannot fail this."""
    async with processes(own_redis.url, mode, 1) as (table, (reader,)):
        await reader.near()
        own_runtime.pause("cache")
        frozen_s = time.monotonic()
        try:
            table.write("a")
            async with asyncio.timeout(30):
                while reader.tier.is_trusted:
                    before_s = time.monotonic()
                    answer = reader.cache.get_now("a")
                    assert answer is None or before_s < frozen_s + HEARING.silence_s
                    await asyncio.sleep(0.01)
            assert reader.cache.get_now("a") is None
            assert (await reader.cache.get("a")).value == "v2"
        finally:
            own_runtime.resume("cache")


async def test_a_new_key_passes_every_filter(redis_url: str) -> None:
    """Made by one process, it is excluded by none; ids nobody made never reach the store."""

    async def ids() -> AsyncIterator[list[str]]:
        yield ["a"]

    async with processes(redis_url, Mode.PUBSUB) as (table, (reader, writer)):
        assert await reader.known.rebuild(ids())
        assert (await reader.cache.get("new")).outcome is Outcome.EXCLUDED
        assert table.reads == 0
        await writer.cache.bust("new", table.write("new"))
        await until(lambda: not reader.known.excludes("new"))
        assert (await reader.cache.get("new")).value == "v1"


async def _cut_listeners(process: Process) -> None:
    """Close every listening connection from the server's side: those that have pinged last."""
    clients = await process.client.client_list()
    for one in clients:
        if one["cmd"] == "ping":
            await process.client.client_kill_filter(_id=one["id"])
