"""Claims about cache-aside on a real Redis: the stale-fill race, absences, one load per key."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from itertools import product
from random import Random

import pytest
from redis.asyncio import Redis

from month1_caching_gateway.caching import (
    CacheAside,
    CacheEvent,
    Codec,
    Entry,
    EntryUnreadable,
    FillRefused,
    Kind,
    Looked,
    Outcome,
    Policy,
    RedisStore,
    Source,
    Versioned,
)
from month1_caching_gateway.caching.entries import encode, may_replace
from scalelab.clients import redis as redis_client
from scalelab.clock import ManualClock
from scalelab.errors import CorruptData, Unavailable

RACES = 200


class Table:
    """A source of rows whose reads a test can hold between reading and answering."""

    def __init__(self) -> None:
        self.rows: dict[str, Versioned[str]] = {}
        self.reads: list[list[str]] = []
        self.hold: asyncio.Event | None = None
        self._read = asyncio.Semaphore(0)

    def write(self, key: str, value: str) -> int:
        before = self.rows.get(key)
        version = 1 if before is None else before.version + 1
        self.rows[key] = Versioned(value, version)
        return version

    async def read(self, keys: Sequence[str]) -> dict[str, Versioned[str]]:
        found = {key: self.rows[key] for key in keys if key in self.rows}
        self.reads.append(list(keys))
        hold = self.hold
        if hold is not None:
            self._read.release()
            await hold.wait()
        return found

    async def has_read(self) -> None:
        """Return when one more held read has taken its rows."""
        async with asyncio.timeout(60):
            await self._read.acquire()


class Bench:
    """A cache over a table, and everything it told its hook."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.table = Table()
        self.events: list[CacheEvent] = []
        self.cache = self.another(self.table.read)

    def another(self, source: Source[str]) -> CacheAside[str]:
        """One more process's cache on the same Redis."""
        store = RedisStore(
            self.redis, namespace="bench", clock=ManualClock(), hook=self.events.append
        )
        return CacheAside(
            source,
            store,
            Codec(str.encode, _decode),
            policy=Policy(),
            random=Random(1),
            hook=self.events.append,
        )

    def counted(self) -> Counter[Outcome]:
        counts: Counter[Outcome] = Counter()
        for event in self.events:
            if isinstance(event, Looked):
                counts[event.outcome] += event.keys
        return counts

    def of_kind(self, kind: type) -> list[CacheEvent]:
        return [event for event in self.events if isinstance(event, kind)]


def _decode(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise CorruptData("no text") from error


@pytest.fixture
async def bench(redis_url: str) -> AsyncIterator[Bench]:
    client = redis_client.connect(redis_url, timeout_s=5.0, connect_timeout_s=30.0)
    made = Bench(client)
    async with made.cache:
        yield made
    await client.aclose()


async def test_the_second_lookup_is_a_hit(bench: Bench) -> None:
    """A miss fills; the source is read once."""
    bench.table.write("a", "one")
    first, second = await bench.cache.get("a"), await bench.cache.get("a")
    assert (first.value, first.outcome) == ("one", Outcome.MISS)
    assert (second.value, second.outcome) == ("one", Outcome.HIT)
    assert bench.table.reads == [["a"]]


async def test_an_absence_is_remembered_too(bench: Bench) -> None:
    """Asking for what does not exist costs the source one read, not one a request."""
    answers = [await bench.cache.get("ghost") for _ in range(3)]
    assert [answer.value for answer in answers] == [None, None, None]
    assert bench.table.reads == [["ghost"]]


async def test_a_batch_is_one_command_and_one_load_of_what_is_missing(bench: Bench) -> None:
    """Hits are not loaded again; doubles are asked once; the order asked is kept."""
    for key in "abc":
        bench.table.write(key, key.upper())
    await bench.cache.get("b")
    commands = await _commands(bench.redis, "mget")
    answers = await bench.cache.get_many(["c", "b", "a", "c", "x"])
    assert await _commands(bench.redis, "mget") == commands + 1
    assert {key: answer.value for key, answer in answers.items()} == {
        "a": "A",
        "b": "B",
        "c": "C",
        "x": None,
    }
    assert bench.table.reads == [["b"], ["c", "a", "x"]]
    assert bench.counted() == {Outcome.HIT: 1, Outcome.MISS: 4}


async def test_five_hundred_concurrent_misses_read_the_source_once(bench: Bench) -> None:
    """A cold key under a crowd costs one read in this process."""
    bench.table.write("a", "one")
    bench.table.hold = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(bench.cache.get("a")) for _ in range(500)]
        await bench.table.has_read()
        bench.table.hold.set()
    assert {task.result().value for task in asked} == {"one"}
    assert len(bench.table.reads) == 1


async def test_an_old_read_never_covers_a_newer_write(bench: Bench) -> None:
    """The stale-fill race, scripted: read old, commit and bust, then fill. I1 on the server.

    The reader is another process's cache, so nothing but the store can stop it.
    """
    async with bench.another(bench.table.read) as reader:
        for number in range(RACES):
            key = f"key-{number}"
            bench.table.write(key, "old")
            bench.table.hold = asyncio.Event()
            reading = asyncio.create_task(reader.get(key))
            await bench.table.has_read()
            assert await bench.cache.bust(key, bench.table.write(key, "new"))
            bench.table.hold.set()
            assert (await reading).value == "old"
            bench.table.hold = None
            assert (await reader.get(key)).value == "new"
            assert (await bench.cache.get(key)).value == "new"
    assert len(bench.of_kind(FillRefused)) == RACES


async def test_an_absence_read_before_an_insert_does_not_hide_the_row(bench: Bench) -> None:
    """The same race with "no such row" as the old answer."""
    async with bench.another(bench.table.read) as reader:
        bench.table.hold = asyncio.Event()
        reading = asyncio.create_task(reader.get("a"))
        await bench.table.has_read()
        assert await bench.cache.bust("a", bench.table.write("a", "new"))
        bench.table.hold.set()
        assert (await reading).value is None
        bench.table.hold = None
        assert (await reader.get("a")).value == "new"


async def test_a_lagging_replica_cannot_fill_the_cache(bench: Bench) -> None:
    """A reader whose source is behind sees its own past, but shares it with nobody."""
    replica = Table()
    replica.write("a", "old")
    bench.table.write("a", "old")
    async with bench.another(replica.read) as behind:
        assert (await behind.get("a")).value == "old"
        assert await bench.cache.bust("a", bench.table.write("a", "new"))
        assert (await behind.get("a")).value == "old"
        assert (await bench.cache.get("a")).value == "new"
        assert (await behind.get("a")).value == "new"


async def test_a_reader_after_a_write_does_not_join_a_load_from_before(bench: Bench) -> None:
    """G2 inside one process: read your own write while an older load is under way."""
    bench.table.write("a", "old")
    bench.table.hold = asyncio.Event()
    before = asyncio.create_task(bench.cache.get("a"))
    await bench.table.has_read()
    await bench.cache.bust("a", bench.table.write("a", "new"))
    after = asyncio.create_task(bench.cache.get("a"))
    await bench.table.has_read()
    bench.table.hold.set()
    assert ((await before).value, (await after).value) == ("old", "new")


async def test_the_script_and_the_rule_agree_on_every_pair(bench: Bench) -> None:
    """put.lua decides as may_replace does, for every kind and order of versions."""
    store = RedisStore(bench.redis, namespace="pairs", clock=ManualClock())
    entries = [
        Entry(kind, version, b"payload" if kind is Kind.VALUE else b"")
        for kind, version in product(Kind, (0, 1, 2, 9, 10, 2**53 - 2, 2**53 - 1))
        if version > 0 or kind is Kind.ABSENT
    ]
    for standing, candidate in product([None, *entries], entries):
        await bench.redis.delete("pairs:k")
        if standing is not None:
            await bench.redis.set("pairs:k", encode(standing))
        await store.put({"k": (candidate, 60_000)})
        expected = candidate if may_replace(standing, candidate) else standing
        assert await store.read(["k"]) == {"k": expected}, (standing, candidate)


async def test_lifetimes_are_spread_and_bounded(bench: Bench) -> None:
    """I3 on the server: no entry outlives its ttl, and keys filled together end apart."""
    keys = [f"key-{number}" for number in range(50)]
    for key in keys:
        bench.table.write(key, "x")
    await bench.cache.get_many(keys)
    lifetimes = [await bench.redis.pttl(f"bench:{key}") for key in keys]
    assert all(0 < lifetime <= 60_000 for lifetime in lifetimes)
    assert len(set(lifetimes)) > len(keys) / 2


@pytest.mark.parametrize("raw", [b"", b"nonsense", b"V00", b"V0000000000000001\xff\xfe"])
async def test_foreign_bytes_under_our_key_are_a_miss_and_are_replaced(
    bench: Bench, raw: bytes
) -> None:
    """An entry nobody can read is counted, not served and not fatal."""
    bench.table.write("a", "one")
    await bench.redis.set("bench:a", raw)
    assert (await bench.cache.get("a")).value == "one"
    assert bench.of_kind(EntryUnreadable) == [EntryUnreadable("a")]
    assert (await bench.cache.get("a")).outcome is Outcome.HIT


async def test_a_failing_source_fails_the_lookup_and_fills_nothing(bench: Bench) -> None:
    """Trouble of the source is not remembered as an absence."""

    async def broken(_keys: Sequence[str]) -> dict[str, Versioned[str]]:
        raise Unavailable("the source is away")

    bench.table.write("a", "one")
    async with bench.another(broken) as cache:
        with pytest.raises(Unavailable):
            await cache.get("a")
    assert (await bench.cache.get("a")).value == "one"


async def _commands(redis: Redis, name: str) -> int:
    stats = await redis.info("commandstats")
    return int(stats.get(f"cmdstat_{name}", {}).get("calls", 0))
