"""What every back end of the cache promises: a real Redis and a real Memcached, one suite."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import product
from random import Random

import pytest

from month1_caching_gateway.caching import (
    CacheEvent,
    Entry,
    EntryTooLarge,
    EntryUnreadable,
    FillRefused,
    Kind,
    MemcachedStore,
    RedisStore,
    RemoteStore,
)
from month1_caching_gateway.caching.entries import VERSION_LIMIT, encode, may_replace
from month1_caching_gateway.caching.memcached_store import ENTRY_LIMIT_BYTES, name_of
from scalelab.clients import redis as redis_client
from scalelab.clients.memcached import Memcached
from scalelab.clock import SystemClock

MINUTE_MS = 60_000


class Bench:
    """Stores of several processes on one server, and a way past them to its bytes."""

    def __init__(
        self,
        make: Callable[[Callable[[CacheEvent], None]], RemoteStore],
        write_raw: Callable[[str, bytes], Awaitable[None]],
    ) -> None:
        self.events: list[CacheEvent] = []
        self.make = lambda: make(self.events.append)
        self.store = self.make()
        self.write_raw = write_raw


@pytest.fixture(params=["redis", "memcached"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    namespace = f"t{uuid.uuid4().hex[:12]}"
    clock = SystemClock()
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        client = redis_client.connect(url, timeout_s=10.0, connect_timeout_s=10.0)

        async def set_in_redis(key: str, raw: bytes) -> None:
            await client.set(f"{namespace}:{key}", raw)

        yield Bench(
            lambda hook: RedisStore(client, namespace=namespace, clock=clock, hook=hook),
            set_in_redis,
        )
        await client.aclose()
        return
    host, port = request.getfixturevalue("memcached_server").address
    memcached = Memcached(host, port, timeout_s=10.0, connect_timeout_s=10.0)

    async def set_in_memcached(key: str, raw: bytes) -> None:
        name = name_of(f"{namespace}:", key)
        command = b"set %b 0 60 %d\r\n%b\r\n" % (name, len(raw), raw)
        assert await memcached.call([command]) == [b"STORED"]

    yield Bench(
        lambda hook: MemcachedStore(memcached, namespace=namespace, clock=clock, hook=hook),
        set_in_memcached,
    )
    await memcached.aclose()


def value(version: int, payload: bytes = b"payload") -> tuple[Entry, int]:
    return Entry(Kind.VALUE, version, payload), MINUTE_MS


async def test_what_is_put_is_read(bench: Bench) -> None:
    """Values and absences; a key that nobody put is left out."""
    binary = bytes(range(256)) + b"\r\nEND\r\n"
    entries = {
        "a": value(3, binary),
        "b": (Entry(Kind.ABSENT, 0), MINUTE_MS),
        "empty": value(1, b""),
    }
    assert await bench.store.put(entries) == {"a", "b", "empty"}
    assert await bench.store.read(["a", "b", "empty", "nobody"]) == {
        key: entry for key, (entry, _) in entries.items()
    }


async def test_freshness_travels_with_the_entry(bench: Bench) -> None:
    """Until when it is fresh and what its load took are there for every process."""
    entry = Entry(Kind.VALUE, 1, b"x", fresh_until_ms=1_767_225_600_123, load_ms=250)
    await bench.store.put({"a": (entry, MINUTE_MS)})
    assert await bench.store.read(["a"]) == {"a": entry}


async def test_every_pair_of_entries_is_judged_as_the_rule_says(bench: Bench) -> None:
    """`may_replace` for every kind and order of versions, in one step on the server."""
    entries = [
        Entry(kind, version, b"payload" if kind is Kind.VALUE else b"")
        for kind, version in product(Kind, (0, 1, 2, 9, 10, VERSION_LIMIT - 2, VERSION_LIMIT - 1))
        if version > 0 or kind is Kind.ABSENT
    ]
    for number, (standing, candidate) in enumerate(product([None, *entries], entries)):
        key = f"k{number}"
        if standing is not None:
            await bench.write_raw(key, encode(standing))
        stored = await bench.store.put({key: (candidate, MINUTE_MS)})
        allowed = may_replace(standing, candidate)
        assert stored == ({key} if allowed else set()), (standing, candidate)
        assert await bench.store.read([key]) == {key: candidate if allowed else standing}


async def test_a_fence_refuses_the_late_fill_of_another_process(bench: Bench) -> None:
    """I1: the old read comes last and is told to the hook."""
    reader, writer = bench.make(), bench.make()
    assert await writer.fence("a", 2, MINUTE_MS)
    assert await reader.put({"a": value(1)}) == set()
    assert bench.events == [FillRefused(1)]
    assert await reader.put({"a": value(2)}) == {"a"}
    assert await writer.read(["a"]) == {"a": value(2)[0]}


async def test_a_writer_may_leave_the_value_instead_of_a_fence(bench: Bench) -> None:
    """`replace` guards as a fence does, and the next reader finds what was written."""
    assert await bench.store.put({"a": value(1)}) == {"a"}
    written = {"a": value(2, b"new"), "b": value(1)}
    assert await bench.store.replace(written, fence_ms=MINUTE_MS)
    assert await bench.make().put({"a": value(1)}) == set()
    assert await bench.store.read(["a", "b"]) == {key: pair[0] for key, pair in written.items()}


async def test_nothing_below_what_was_stored_stands_after_concurrent_puts(bench: Bench) -> None:
    """Twenty processes put twenty versions of ten keys at once, in any order: compare and store is
    one step, so no key ends below a version that somebody was told is stored."""
    random = Random(7)
    stores = [bench.make() for _ in range(20)]
    keys = [f"key-{number}" for number in range(10)]
    versions = list(range(1, 21))
    random.shuffle(versions)
    stored = await asyncio.gather(
        *(
            store.put({key: value(version) for key in keys})
            for store, version in zip(stores, versions, strict=True)
        )
    )
    found = await bench.store.read(keys)
    assert found is not None
    for key in keys:
        told = [
            version for version, done in zip(versions, stored, strict=True) if done and key in done
        ]
        assert found[key].version >= max(told)


@pytest.mark.parametrize(
    "key",
    ["with space", "line\r\nbreak", "ünïcode", "x" * 300, "#hash", "", "\x00\x7f", "日本" * 60],
)
async def test_any_text_is_a_key(bench: Bench, key: str) -> None:
    """Spaces, controls, length and other scripts neither break the protocol nor share a name."""
    neighbour = key + "."
    await bench.store.put({key: value(1, b"one"), neighbour: value(1, b"two")})
    found = await bench.store.read([key, neighbour])
    assert found == {key: value(1, b"one")[0], neighbour: value(1, b"two")[0]}


async def test_a_key_cannot_pose_as_the_hash_of_another(bench: Bench) -> None:
    """Whoever may choose keys gets no other's value."""
    long = "x" * 300
    await bench.store.put({long: value(1, b"secret")})
    posing = name_of("", long).decode()
    assert await bench.store.read([posing]) == {}


@pytest.mark.parametrize("raw", [b"", b"nonsense", b"V00", b"V0000000000000001\xff\xfe"])
async def test_foreign_bytes_are_told_and_replaced(bench: Bench, raw: bytes) -> None:
    """They are no entry, and stand in nobody's way."""
    await bench.write_raw("a", raw)
    assert await bench.store.read(["a"]) == {}
    assert bench.events == [EntryUnreadable("a")]
    assert await bench.store.put({"a": value(1)}) == {"a"}


async def test_a_value_near_the_limit_fits_and_a_larger_one_is_told(bench: Bench) -> None:
    """Memcached's 1 MB: too large is no error of the request, and spoils no other key."""
    full = bytes(ENTRY_LIMIT_BYTES)
    assert await bench.store.put({"full": value(1, full)}) == {"full"}
    found = await bench.store.read(["full"])
    assert found is not None
    assert found["full"].payload == full
    larger = bytes(8 * 2**20 + 1)
    assert await bench.store.put({"larger": value(1, larger), "b": value(1)}) == {"b"}
    assert bench.events == [EntryTooLarge("larger", len(larger))]


async def test_a_written_value_that_is_too_large_still_removes_the_old_one(bench: Bench) -> None:
    """The fence goes in its place."""
    await bench.store.put({"a": value(1)})
    larger = Entry(Kind.VALUE, 2, bytes(8 * 2**20 + 1))
    assert await bench.store.replace({"a": (larger, MINUTE_MS)}, fence_ms=MINUTE_MS)
    assert await bench.store.read(["a"]) == {"a": Entry(Kind.FENCE, 2)}


async def test_an_entry_ends_with_its_lifetime(bench: Bench) -> None:
    """Both servers forget by themselves; a fill of any version may then stand."""
    assert await bench.store.put({"a": (Entry(Kind.VALUE, 9, b"x"), 1)}) == {"a"}
    async with asyncio.timeout(20):
        while await bench.store.read(["a"]) != {}:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert await bench.store.put({"a": value(1)}) == {"a"}


async def test_a_lifetime_of_two_months_is_not_a_date_in_1970(bench: Bench) -> None:
    """Memcached reads more than 30 days as an instant; the entry must stand all the same."""
    months_ms = 60 * 24 * 3600 * 1000
    await bench.store.put({"a": (Entry(Kind.VALUE, 1, b"x"), months_ms)})
    assert await bench.store.read(["a"]) == {"a": Entry(Kind.VALUE, 1, b"x")}


async def test_a_lease_has_one_holder_who_alone_can_drop_it(bench: Bench) -> None:
    """Taken once; a stranger's drop does nothing; dropped, it is free."""
    first, second = bench.make(), bench.make()
    assert await first.take_leases(["a", "b"], "one", MINUTE_MS) == {"a", "b"}
    assert await second.take_leases(["b", "c"], "two", MINUTE_MS) == {"c"}
    await second.drop_leases(["a", "b"], "two")
    assert await second.take_leases(["a", "b"], "two", MINUTE_MS) == set()
    await first.drop_leases(["a", "b"], "one")
    assert await second.take_leases(["a", "b"], "two", MINUTE_MS) == {"a", "b"}


async def test_a_crowd_gets_one_lease(bench: Bench) -> None:
    """Fifty ask at once."""
    stores = [bench.make() for _ in range(50)]
    taken = await asyncio.gather(
        *(store.take_leases(["a"], f"token-{n}", MINUTE_MS) for n, store in enumerate(stores))
    )
    assert sum(keys == {"a"} for keys in taken) == 1


async def test_reads_of_one_turn_are_one_command(bench: Bench) -> None:
    """A hundred callers are answered each with its own keys."""
    keys = [f"k{number}" for number in range(100)]
    await bench.store.put({key: value(1, key.encode()) for key in keys})
    found = await asyncio.gather(*(bench.store.read([key, "nobody"]) for key in keys))
    assert found == [{key: value(1, key.encode())[0]} for key in keys]
