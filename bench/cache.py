"""The cache per lookup, beside cashews, aiocache and cachetools, and beside a bare Redis GET.

Everything runs in this process on one event loop; the number is CPU of the whole process per
lookup. Tier 1 is the library as used, with its versions, trust and hook; cachetools' TTLCache,
a mapping with a clock, is the honest anchor there. Tier 2 is a hit on a real Redis, by 32 callers
at once and by one. Every answer is compared. Stampedes are counted, not timed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from statistics import median
from typing import Any, cast

import aiocache
import cachetools
import cashews
import uvloop

from month1_caching_gateway.caching import (
    Answer,
    CacheAside,
    Codec,
    LeasePolicy,
    Lfu,
    Lru,
    MemcachedStore,
    Outcome,
    Policy,
    ProcessTier,
    RedisStore,
    RemoteStore,
    Versioned,
)
from scalelab.clients import redis as redis_client
from scalelab.clients.memcached import Memcached as MemcachedClient
from scalelab.clock import SystemClock
from scalelab.lab.course.bench import AnyFigure, Figure, LimitFigure, Options
from scalelab.lab.course.ratio import Sense, compare, is_void
from scalelab.lab.course.rounds import Measure, cpu_us_per_operation, paired
from scalelab.lab.servers import Memcached, Redis, ServerMissing

MONTH = "month1"
_UNIT = "CPU µs/lookup"
_KEYS = [f"product-{number:04}" for number in range(512)]
_VALUE = "x" * 280
_CALLERS = 32
_BATCH = 2048
_FOREVER_S = 3600.0
_CROWD = 1000
_TEXT = Codec(str.encode, bytes.decode)


def run(options: Options) -> list[AnyFigure]:
    """All figures; takes about two minutes."""
    redis = Redis("bench-cache")
    options.runtime.start(redis)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        bed = _Bed(redis.url_of(1), redis.url_of(2), _memcached(options))
        runner.run(bed.fill())
        try:
            subjects = _subjects(runner, bed)
            figures = [*_beside_peers(options, subjects), *_alone(options, subjects)]
            return [*figures, *runner.run(_stampedes(bed.client))]
        finally:
            runner.run(bed.aclose())


class _Bed:
    """Our caches and the peers', warm."""

    def __init__(self, url: str, peer_url: str, memcached: MemcachedClient | None) -> None:
        clock = SystemClock()
        self.client = redis_client.connect(url, timeout_s=10.0, connect_timeout_s=10.0)
        self.memcached = memcached
        store = RedisStore(self.client, namespace="bench", clock=clock)
        told: ProcessTier[Answer[str]] = ProcessTier(
            Lru(10_000), ttl_s=_FOREVER_S, clock=clock, is_told=True
        )
        told.heard(clock.monotonic_s() + _FOREVER_S)
        rare: ProcessTier[Answer[str]] = ProcessTier(
            Lfu(10_000), ttl_s=_FOREVER_S, clock=clock, is_told=False
        )
        self.ours = {
            "lru": _cache(store, told),
            "lfu": _cache(store, rare),
            "redis": _cache(store, None),
        }
        if memcached is not None:
            other = MemcachedStore(memcached, namespace="bench", clock=clock)
            self.ours["memcached"] = _cache(other, None)
        self.cashews_memory = cashews.Cache()
        self.cashews_memory.setup("mem://", size=10_000)
        self.cashews_load = self.cashews_memory(ttl=_FOREVER_S, key="load:{key}")(_load)
        self.cashews_redis = cashews.Cache()
        self.cashews_redis.setup(peer_url, client_side=False)
        self.aiocache_memory = aiocache.SimpleMemoryCache()
        self.mapping = cachetools.TTLCache[str, str, float](10_000, _FOREVER_S)

    async def fill(self) -> None:
        """Every key in every cache; ours by its own misses, and once more for the tier."""
        for cache in self.ours.values():
            for _ in range(2):
                await cache.get_many(_KEYS)
        for key in _KEYS:
            self.mapping[key] = _VALUE
            await self.client.set(key, _VALUE)
            await self.cashews_memory.set(key, _VALUE, expire=_FOREVER_S)
            await self.cashews_redis.set(key, _VALUE, expire=_FOREVER_S)
            await cast("Any", self.aiocache_memory).set(key, _VALUE)

    async def bare(self, key: str) -> str | None:
        """A GET of redis-py, its bytes made text as our codec does."""
        raw = cast("bytes | None", await self.client.get(key))
        return None if raw is None else raw.decode()

    async def aclose(self) -> None:
        """Close every connection."""
        await self.cashews_redis.close()
        await self.cashews_memory.close()
        if self.memcached is not None:
            await self.memcached.aclose()
        await self.client.aclose()


def _subjects(runner: asyncio.Runner, bed: _Bed) -> dict[str, Measure]:
    """What is measured, by the name it has in the figures."""

    def awaited(look: Callable[[str], Awaitable[object]], callers: int = 1) -> Measure:
        batch = _BATCH if callers == 1 else 64 * callers
        return cpu_us_per_operation(
            lambda count: runner.run(_crowd(look, callers, count)), batch=batch
        )

    lru, lfu, redis = bed.ours["lru"], bed.ours["lfu"], bed.ours["redis"]
    found: dict[str, Measure] = {
        "tier 1": _at_once(_value_now(lru)),
        "tier 1, LFU": _at_once(_value_now(lfu)),
        "tier 1, awaited": awaited(_value_of(lru, Outcome.NEAR)),
        "cachetools TTLCache": _at_once(bed.mapping.get),
        "cashews, memory": awaited(bed.cashews_memory.get),
        "cashews' decorator, memory": awaited(bed.cashews_load),
        "aiocache, memory": awaited(cast("Any", bed.aiocache_memory).get),
        "tier 2": awaited(_value_of(redis, Outcome.HIT), _CALLERS),
        "cashews, Redis": awaited(bed.cashews_redis.get, _CALLERS),
        "redis-py GET": awaited(bed.bare, _CALLERS),
        "tier 2, one caller": awaited(_value_of(redis, Outcome.HIT)),
        "redis-py GET, one caller": awaited(bed.bare),
    }
    if "memcached" in bed.ours:
        found["tier 2 on Memcached"] = awaited(
            _value_of(bed.ours["memcached"], Outcome.HIT), _CALLERS
        )
    return found


def _beside_peers(options: Options, subjects: dict[str, Measure]) -> list[Figure]:
    """Ratios, after a control that says whether this machine can measure at all."""

    def ratio(ours: str, peer: str, sense: Sense, gate: float) -> Figure:
        options.note(f"in turns: {ours}, {peer}")
        a, b = (peer, ours) if sense == "at_least" else (ours, peer)
        rounds = paired(
            subjects[a],
            subjects[b],
            rounds=options.rounds,
            round_s=options.in_process_round_s,
        )
        unit = f"{_UNIT}, {'peer / ours' if sense == 'at_least' else 'ours / peer'}"
        found = compare(rounds, options.generator)
        return Figure("cache", ours, peer, unit, found, sense, gate)

    control = paired(
        subjects["tier 1"],
        subjects["tier 1"],
        rounds=options.rounds,
        round_s=options.in_process_round_s,
    )
    if is_void(compare(control, options.generator)):
        options.note("the control is off: this machine is too busy")
    return [
        ratio("tier 1, awaited", "cashews' decorator, memory", "at_least", 20.0),
        ratio("tier 1", "cashews, memory", "at_least", 5.0),
        ratio("tier 1", "aiocache, memory", "at_least", 10.0),
        ratio("tier 1", "cachetools TTLCache", "at_least", 0.8),
        ratio("tier 2", "cashews, Redis", "at_least", 3.0),
        ratio("tier 2", "redis-py GET", "at_most", 1.2),
        ratio("tier 2, one caller", "redis-py GET, one caller", "at_most", 1.2),
    ]


def _alone(options: Options, subjects: dict[str, Measure]) -> list[LimitFigure]:
    """Each subject's own cost, shown and judged by nobody."""
    options.note("each by itself")
    costs = {
        name: median(measure(options.in_process_round_s) for _ in range(3))
        for name, measure in subjects.items()
    }
    return [
        LimitFigure("cache", name, _UNIT, round(cost, 3), "at_most", None)
        for name, cost in costs.items()
    ]


async def _stampedes(client: Any) -> list[LimitFigure]:
    """Calls of the source for a thousand misses on one key: one process, and four with a lease."""
    figures: list[LimitFigure] = []
    for what, processes, leases in (
        ("one process", 1, None),
        ("four processes, a lease", 4, LeasePolicy()),
    ):
        source = _Source()
        caches = [
            _cache(
                RedisStore(client, namespace=f"stampede-{processes}", clock=SystemClock()),
                None,
                source=source,
                leases=leases,
            )
            for _ in range(processes)
        ]
        share = _CROWD // processes
        await asyncio.gather(*(cache.get("hot") for cache in caches for _ in range(share)))
        name = f"{_CROWD} misses on one key, {what}"
        figures.append(LimitFigure("cache", name, "source calls", source.calls, "at_most", 1))
    return figures


class _Source:
    """Rows of one value; every call is counted and takes a little."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, keys: Sequence[str]) -> dict[str, Versioned[str]]:
        self.calls += 1
        await asyncio.sleep(0.05)
        return {key: Versioned(_VALUE, 1) for key in keys}


def _cache(
    store: RemoteStore,
    near: ProcessTier[Answer[str]] | None,
    *,
    source: _Source | None = None,
    leases: LeasePolicy | None = None,
) -> CacheAside[str]:
    return CacheAside(
        source or _Source(),
        store,
        _TEXT,
        policy=Policy(ttl_s=_FOREVER_S),
        random=Random(1),
        leases=leases,
        near=near,
    )


def _at_once(look: Callable[[str], object]) -> Measure:
    """Lookups that do not wait, every answer compared."""

    def many(count: int) -> None:
        for number in range(count):
            if look(_KEYS[number % 512]) != _VALUE:
                raise AssertionError("a wrong answer is no measurement")

    return cpu_us_per_operation(many, batch=_BATCH)


async def _crowd(look: Callable[[str], Awaitable[object]], callers: int, count: int) -> None:
    """`count` lookups by so many callers, every answer compared."""

    async def caller(first: int) -> None:
        for number in range(first, first + count // callers):
            if await look(_KEYS[number % 512]) != _VALUE:
                raise AssertionError("a wrong answer is no measurement")

    await asyncio.gather(*(caller(number * 37) for number in range(callers)))


def _value_now(cache: CacheAside[str]) -> Callable[[str], object]:
    def look(key: str) -> object:
        answer = cache.get_now(key)
        return None if answer is None else answer.value

    return look


def _value_of(cache: CacheAside[str], outcome: Outcome) -> Callable[[str], Awaitable[object]]:
    async def look(key: str) -> object:
        answer = await cache.get(key)
        return answer.value if answer.outcome is outcome else None

    return look


async def _load(key: str) -> str:
    """What cashews' decorator stands in front of."""
    if key not in _KEYS:
        raise KeyError(key)
    return _VALUE


def _memcached(options: Options) -> MemcachedClient | None:
    server = Memcached("bench-memcached")
    try:
        options.runtime.start(server)
    except ServerMissing as missing:
        options.note(f"without Memcached: {missing}")
        return None
    return MemcachedClient(*server.address, timeout_s=10.0, connect_timeout_s=10.0)
