"""Claims about single flight across processes: leases on a real Redis, a holder really killed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random

import pytest
from redis.asyncio import Redis

from month1_caching_gateway.caching import (
    CacheAside,
    CacheEvent,
    Codec,
    LeasePolicy,
    LeaseWaited,
    Outcome,
    Policy,
    RedisStore,
    Versioned,
)
from scalelab.clients import redis as redis_client
from scalelab.clock import SystemClock
from scalelab.errors import InvalidInput, Unavailable

ROOT = Path(__file__).parents[4]
QUICK = LeasePolicy(poll_s=0.005)


class Origin:
    """A source whose reads wait until a test lets them go on."""

    def __init__(self) -> None:
        self.rows = {key: Versioned(f"{key}-1", 1) for key in "abcdef"}
        self.reads: list[list[str]] = []
        self.open = asyncio.Event()
        self.error: Exception | None = None
        self._begun = asyncio.Semaphore(0)

    async def read(self, keys: Sequence[str]) -> dict[str, Versioned[str]]:
        self.reads.append(list(keys))
        rows, error = dict(self.rows), self.error
        self._begun.release()
        await self.open.wait()
        if error is not None:
            raise error
        return {key: rows[key] for key in keys if key in rows}

    async def begun(self) -> None:
        async with asyncio.timeout(10):
            await self._begun.acquire()


class Bench:
    """Caches of several processes over one origin and one Redis."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.origin = Origin()
        self.events: list[CacheEvent] = []
        self._waits = asyncio.Semaphore(0)

    def process(self, leases: LeasePolicy = QUICK, policy: Policy | None = None) -> CacheAside[str]:
        return CacheAside(
            self.origin.read,
            RedisStore(self.client, namespace="bench", clock=SystemClock()),
            Codec(str.encode, bytes.decode),
            policy=policy or Policy(),
            random=Random(1),
            leases=leases,
            hook=self._on_event,
        )

    def _on_event(self, event: CacheEvent) -> None:
        self.events.append(event)
        if isinstance(event, LeaseWaited):
            self._waits.release()

    async def waiting(self, processes: int) -> None:
        """Return when so many more loads wait for another's lease."""
        async with asyncio.timeout(10):
            for _ in range(processes):
                await self._waits.acquire()


@pytest.fixture
async def bench(redis_url: str) -> AsyncIterator[Bench]:
    client = redis_client.connect(
        redis_url, timeout_s=5.0, connect_timeout_s=30.0, max_connections=512
    )
    yield Bench(client)
    await client.aclose()


async def test_one_process_asks_while_the_others_wait(bench: Bench) -> None:
    """L1: ten processes with fifty callers each, one cold key, one ask."""
    caches = [bench.process() for _ in range(10)]
    asking = [asyncio.create_task(cache.get("a")) for cache in caches for _ in range(50)]
    await bench.waiting(9)
    bench.origin.open.set()
    assert {answer.value for answer in await asyncio.gather(*asking)} == {"a-1"}
    assert bench.origin.reads == [["a"]]
    assert await bench.client.keys("lease:*") == []


async def test_a_winner_that_comes_late_looks_before_it_asks(bench: Bench) -> None:
    """A miss from before the fill, a lease from after it: the entry is taken, nobody is asked."""
    bench.origin.open.set()
    late = bench.process()
    await bench.process().get("a")
    # The flights of `late` start where a lookup that has just missed would.
    assert await late._flights.get(["a"]) == {"a": "a-1"}
    assert bench.origin.reads == [["a"]]


async def test_overlapping_batches_ask_for_each_key_once(bench: Bench) -> None:
    """No batch holds a lease while it waits for another's, so neither waits for ever."""
    first, second = bench.process(), bench.process()
    one = asyncio.create_task(first.get_many(["a", "b", "c"]))
    await bench.origin.begun()
    two = asyncio.create_task(second.get_many(["c", "d", "a"]))
    await bench.origin.begun()
    bench.origin.open.set()
    async with asyncio.timeout(10):
        assert {key: a.value for key, a in (await two).items()} == {
            "a": "a-1",
            "c": "c-1",
            "d": "d-1",
        }
        await one
    assert sorted(key for read in bench.origin.reads for key in read) == ["a", "b", "c", "d"]


async def test_a_failed_holder_lets_the_next_one_ask(bench: Bench) -> None:
    """An error is the holder's own; its lease is dropped at once, not after its lifetime."""
    bench.origin.error = Unavailable("the source is away")
    first, second = bench.process(), bench.process(LeasePolicy(600.0, 600.0, 0.005))
    one = asyncio.create_task(first.get("a"))
    await bench.origin.begun()
    bench.origin.error = None
    two = asyncio.create_task(second.get("a"))
    await bench.waiting(1)
    bench.origin.open.set()
    with pytest.raises(Unavailable):
        await one
    async with asyncio.timeout(10):
        assert (await two).value == "a-1"
    assert len(bench.origin.reads) == 2


async def test_closing_a_cache_drops_its_leases(bench: Bench) -> None:
    """A process that stops in an orderly way keeps nobody waiting."""
    async with bench.process() as cache:
        asking = asyncio.create_task(cache.get("a"))
        await bench.origin.begun()
    with pytest.raises(Unavailable):
        await asking
    assert await bench.client.keys("lease:*") == []


async def test_a_loser_that_waited_long_enough_asks_itself(bench: Bench) -> None:
    """L3: somebody else's lease is worth `wait_s`, not more."""
    await bench.client.set("lease:bench:a", "somebody")
    bench.origin.open.set()
    policy = Policy(load_timeout_s=0.9)
    cache = bench.process(LeasePolicy(ttl_s=1.0, wait_s=1.0, poll_s=0.05), policy)
    assert (await cache.get("a")).value == "a-1"
    assert bench.events[-1] == LeaseWaited(1, gave_up=True)
    assert await bench.client.get("lease:bench:a") == b"somebody"


async def test_a_waiting_reader_never_gets_what_a_write_has_outdated(bench: Bench) -> None:
    """L4, G2: the holder read before the write; who asks after it waits, and gets the new row."""
    reader, writer = bench.process(), bench.process()
    before = asyncio.create_task(reader.get("a"))
    await bench.origin.begun()
    bench.origin.rows["a"] = Versioned("a-2", 2)
    assert await writer.bust("a", 2)
    after = asyncio.create_task(writer.get("a"))
    await bench.waiting(1)
    bench.origin.open.set()
    async with asyncio.timeout(10):
        assert ((await before).value, (await after).value) == ("a-1", "a-2")


async def test_without_redis_every_process_asks_at_once() -> None:
    """L3: a lease is a saving; when nobody can grant one the source is asked."""
    client = redis_client.connect("redis://127.0.0.1:1/0")
    lone = Bench(client)
    lone.origin.open.set()
    async with lone.process() as cache:
        answer = await cache.get("a")
    assert (answer.value, answer.outcome) == ("a-1", Outcome.BYPASS)
    await client.aclose()


async def test_a_killed_holder_costs_one_more_ask(bench: Bench, redis_url: str) -> None:
    """L2: SIGKILL while it asks; its lease lapses, and one of five waiting processes asks."""
    script = str(Path(__file__).with_name("lease_holder.py"))
    holder = await asyncio.create_subprocess_exec(
        sys.executable,
        script,
        redis_url,
        "a",
        "3",
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert holder.stdout is not None
    async with asyncio.timeout(30):
        assert await holder.stdout.readline() == b"asked\n"
    caches = [bench.process() for _ in range(5)]
    asking = [asyncio.create_task(cache.get("a")) for cache in caches]
    await bench.waiting(5)
    assert bench.origin.reads == []
    holder.kill()
    await holder.wait()
    await bench.origin.begun()
    bench.origin.open.set()
    async with asyncio.timeout(10):
        assert {answer.value for answer in await asyncio.gather(*asking)} == {"a-1"}
    assert bench.origin.reads == [["a"]]


@pytest.mark.parametrize(("ttl_s", "wait_s"), [(0.0, 1.0), (2.0, 1.0)])
def test_a_lease_policy_that_cannot_hold_is_refused(ttl_s: float, wait_s: float) -> None:
    """No lifetime at all, or losers that give up before a dead holder's lease lapses."""
    with pytest.raises(InvalidInput):
        LeasePolicy(ttl_s=ttl_s, wait_s=wait_s)


async def test_a_lease_shorter_than_a_load_is_refused(bench: Bench) -> None:
    """L1 needs the lease to outlive the ask it stands for."""
    with pytest.raises(InvalidInput):
        bench.process(LeasePolicy(ttl_s=1.0, wait_s=2.0), Policy(load_timeout_s=1.0))
