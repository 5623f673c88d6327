"""Claims about read-through without versions and write-through, on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from random import Random

import pytest
from redis.asyncio import Redis

from month1_caching_gateway.caching import (
    CacheAside,
    Codec,
    Outcome,
    Policy,
    ReadThrough,
    RedisStore,
    Versioned,
    WriteThrough,
)
from scalelab.clients import redis as redis_client
from scalelab.clock import ManualClock
from scalelab.errors import InvalidInput, Unavailable

TEXT = Codec(str.encode, bytes.decode)


class Pages:
    """Something that renders: no versions, a present content, and loads that can be held."""

    def __init__(self) -> None:
        self.content = "first"
        self.loads = 0
        self.hold: asyncio.Event | None = None
        self._loading = asyncio.Semaphore(0)

    async def render(self, key: str) -> str | None:
        self.loads += 1
        content = self.content
        if (hold := self.hold) is not None:
            self._loading.release()
            await hold.wait()
        return None if key == "ghost" else f"{key}: {content}"

    async def loading(self) -> None:
        async with asyncio.timeout(20):
            await self._loading.acquire()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = redis_client.connect(redis_url, timeout_s=10.0, connect_timeout_s=30.0)
    yield client
    await client.aclose()


def reader(redis: Redis, pages: Pages, clock: ManualClock) -> ReadThrough[str]:
    store = RedisStore(redis, namespace="pages", clock=clock)
    return ReadThrough(pages.render, store, TEXT, policy=Policy(), random=Random(1), skew_s=0.05)


async def test_a_value_is_loaded_once_and_an_absence_too(redis: Redis) -> None:
    """The caller sees values; that there is a cache it does not see."""
    pages, clock = Pages(), ManualClock()
    async with reader(redis, pages, clock) as cache:
        assert [await cache.get("a") for _ in range(3)] == ["a: first"] * 3
        assert [await cache.get("ghost") for _ in range(3)] == [None] * 3
        assert await cache.get_many(["b", "a"]) == {"b": "b: first", "a": "a: first"}
    assert pages.loads == 3


async def test_what_began_to_load_before_an_invalidation_is_not_kept(redis: Redis) -> None:
    """G2: without any version of the source, the instant a load began decides."""
    pages, clock = Pages(), ManualClock()
    async with reader(redis, pages, clock) as one, reader(redis, pages, clock) as other:
        pages.hold = asyncio.Event()
        old = asyncio.create_task(one.get("a"))
        await pages.loading()
        clock.advance(1.0)
        pages.content, hold, pages.hold = "second", pages.hold, None
        assert await other.invalidate("a")
        hold.set()
        assert await old == "a: first"
        assert await one.get("a") == "a: second"
        assert await other.get("a") == "a: second"


async def test_within_the_skew_nothing_is_kept_and_after_it_everything(redis: Redis) -> None:
    """The margin for clocks that differ costs loads, never a stale value."""
    pages, clock = Pages(), ManualClock()
    async with reader(redis, pages, clock) as cache:
        await cache.invalidate("a")
        clock.advance(0.02)
        await cache.get("a")
        await cache.get("a")
        assert pages.loads == 2
        clock.advance(0.05)
        await cache.get("a")
        await cache.get("a")
        assert pages.loads == 3


async def test_a_clock_in_the_past_is_served_and_does_not_cover_what_is_newer(
    redis: Redis,
) -> None:
    """A process whose clock is an hour behind loads for itself and spoils nobody."""
    pages, clock, late = Pages(), ManualClock(), ManualClock()
    clock.advance(3600.0)
    async with reader(redis, pages, clock) as right, reader(redis, pages, late) as behind:
        await right.invalidate("a")
        assert await behind.get("a") == "a: first"
        pages.content = "second"
        clock.advance(1.0)
        assert await right.get("a") == "a: second"
        assert await behind.get("a") == "a: second"


async def test_a_skew_below_zero_is_a_mistake(redis: Redis) -> None:
    """Clocks differ, or they do not."""
    store = RedisStore(redis, namespace="pages", clock=ManualClock())
    with pytest.raises(InvalidInput):
        ReadThrough(Pages().render, store, TEXT, policy=Policy(), random=Random(1), skew_s=-1.0)


class Table:
    """Rows with versions; a commit can be held after it is done."""

    def __init__(self) -> None:
        self.rows: dict[str, Versioned[str]] = {}
        self.reads = 0
        self.hold: asyncio.Event | None = None
        self.committed = asyncio.Event()

    async def write(self, key: str, value: str) -> int:
        version = self.rows[key].version + 1 if key in self.rows else 1
        self.rows[key] = Versioned(value, version)
        self.committed.set()
        if self.hold is not None:
            await self.hold.wait()
        return version

    async def read(self, keys: Sequence[str]) -> dict[str, Versioned[str]]:
        self.reads += 1
        return {key: self.rows[key] for key in keys if key in self.rows}


def shelf(redis: Redis, table: Table) -> CacheAside[str]:
    store = RedisStore(redis, namespace="rows", clock=ManualClock())
    return CacheAside(table.read, store, TEXT, policy=Policy(), random=Random(1))


async def test_the_reader_after_a_write_through_finds_the_value(redis: Redis) -> None:
    """No miss in any process, the source is not read."""
    table = Table()
    async with shelf(redis, table) as cache, shelf(redis, table) as other:
        assert await WriteThrough(cache, table.write).put("a", "one") == 1
        assert await WriteThrough(cache, table.write).put("a", "two") == 2
        answers = [await cache.get("a"), await other.get("a")]
    assert [(one.value, one.outcome) for one in answers] == [("two", Outcome.HIT)] * 2
    assert table.reads == 0


async def test_two_writes_whose_stores_cross_leave_the_newer(redis: Redis) -> None:
    """The first commit is slow to come back; its value does not cover the second's."""
    table = Table()
    async with shelf(redis, table) as cache, shelf(redis, table) as other:
        table.hold = asyncio.Event()
        first = asyncio.create_task(WriteThrough(cache, table.write).put("a", "one"))
        await table.committed.wait()
        hold, table.hold = table.hold, None
        await WriteThrough(other, table.write).put("a", "two")
        hold.set()
        await first
        assert (await cache.get("a")).value == "two"


async def test_a_caller_that_gives_up_after_the_commit_leaves_no_old_value(redis: Redis) -> None:
    """G2: the cache hears of the write although nobody waits for it any more."""
    table = Table()
    async with shelf(redis, table) as cache:
        through = WriteThrough(cache, table.write)
        await through.put("a", "one")
        table.hold = asyncio.Event()
        table.committed.clear()
        writing = asyncio.create_task(through.put("a", "two"))
        await table.committed.wait()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        table.hold.set()
        async with asyncio.timeout(20):
            while (await cache.get("a")).value != "two":  # noqa: ASYNC110 - a task nobody holds
                await asyncio.sleep(0.005)


async def test_a_write_that_fails_changes_nothing(redis: Redis) -> None:
    """Source first: what the source refused is not in the cache."""
    table = Table()

    async def refuse(_key: str, _value: str) -> int:
        raise Unavailable("the source is away")

    async with shelf(redis, table) as cache:
        await WriteThrough(cache, table.write).put("a", "one")
        with pytest.raises(Unavailable):
            await WriteThrough(cache, refuse).put("a", "two")
        assert (await cache.get("a")).value == "one"
