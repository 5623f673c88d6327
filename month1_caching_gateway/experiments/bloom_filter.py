"""Somebody walks through ids that do not exist. Who keeps them from the database?

A cache remembers what was asked before, absences included, and every id here is asked once. The
filter is built from the catalogue's own ids, stored in Redis, and read back as a service would at
its start. What it cannot exclude goes on to the cache and the database as before.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

from redis.asyncio import Redis as RedisClient

from month1_caching_gateway.caching import CacheAside, Codec, Policy, RedisStore, Versioned
from month1_caching_gateway.catalog import (
    DatabaseSettings,
    Sessions,
    migrate,
    product_id,
    products,
    seed,
)
from month1_caching_gateway.catalog.product import Product, decode_product, encode_product
from scalelab.clients import redis
from scalelab.clock import SystemClock
from scalelab.errors import NotFound
from scalelab.hashing import BloomFilter, size_for
from scalelab.lab.course.experiment import (
    Arm,
    Axis,
    Claim,
    Experiment,
    Lab,
    Plot,
    Result,
    Role,
)
from scalelab.lab.servers import Postgres, Redis

FALSE_POSITIVE_RATE = 0.01
IDS_A_REQUEST = 50
FILTER_KEY = "catalog:known-ids"
_DEVIATIONS = 4.5
"""How far from the expectation a count may lie: by chance alone once in 150,000 runs."""


@dataclass(frozen=True, slots=True)
class Walk:
    """What is asked. present: ids of the catalogue; absent: others; requests: both, mixed."""

    present: frozenset[str]
    absent: frozenset[str]
    requests: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Counted:
    """absent_reads, present_reads: ids asked of the database. found: present ids answered.
    redis_keys: entries that stood in Redis at the end."""

    absent_reads: int
    present_reads: int
    found: int
    redis_keys: int


class CountingSource:
    """Products from the database; remembers every id it was asked for."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self.asked: list[str] = []

    async def __call__(self, product_ids: Sequence[str]) -> Mapping[str, Versioned[Product]]:
        self.asked += product_ids
        async with self._sessions.reading() as session:
            found = await products.find(session, product_ids)
        return {key: Versioned(product, product.version) for key, product in found.items()}


def walk_of(stock: int, absent: int, random: Random) -> Walk:
    """Every second product once, and `absent` ids beyond the last, each once, in random order."""
    present = [product_id(number) for number in range(1, stock + 1, 2)]
    others = [product_id(number) for number in range(stock + 1, stock + absent + 1)]
    asked = [*present, *others]
    random.shuffle(asked)
    requests = tuple(
        tuple(asked[start : start + IDS_A_REQUEST]) for start in range(0, len(asked), IDS_A_REQUEST)
    )
    return Walk(frozenset(present), frozenset(others), requests)


async def measure(
    walk: Walk,
    sessions: Sessions,
    client: RedisClient,
    *,
    held: BloomFilter | None,
    random: Random,
) -> Counted:
    """Ask everything of a cold cache; ids that the filter excludes are answered at once."""
    source = CountingSource(sessions)
    store = RedisStore(client, namespace="experiment:product", clock=SystemClock())
    codec = Codec(encode_product, decode_product)
    found = 0
    policy = Policy(negative_ttl_s=600.0)  # no absence expires during the run
    async with CacheAside(source, store, codec, policy=policy, random=random) as cache:
        for request in walk.requests:
            ids = [key for key in request if held is None or key in held]
            answers = await cache.get_many(ids)
            found += sum(answer.value is not None for answer in answers.values())
    absent_reads = sum(key in walk.absent for key in source.asked)
    # redis-py leaves its keyword arguments untyped.
    keys = await client.dbsize()  # pyright: ignore[reportUnknownMemberType]
    return Counted(absent_reads, len(source.asked) - absent_reads, found, keys)


async def store_filter(sessions: Sessions, client: RedisClient, stock: int) -> None:
    """Read all ids of the catalogue, page by page, and leave their filter in Redis."""
    held = BloomFilter(size_for(stock, FALSE_POSITIVE_RATE))
    after = ""
    while True:
        async with sessions.reading() as session:
            page = await products.page(session, after=after, limit=500)
        if not page:
            break
        for product in page:
            held.add(product.product_id)
        after = page[-1].product_id
    await client.set(FILTER_KEY, held.to_bytes())


async def stored_filter(client: RedisClient) -> bytes:
    """The filter's bytes, as a service would fetch them. Raises NotFound if there are none."""
    stored = await client.get(FILTER_KEY)
    if not isinstance(stored, bytes):
        raise NotFound(f"Redis holds no filter under {FILTER_KEY}")
    return stored


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[RedisClient]:
    """A client with a patient deadline, closed at the end: a busy machine must not cost entries."""
    client = redis.connect(url, timeout_s=10.0, connect_timeout_s=10.0)
    try:
        yield client
    finally:
        await client.aclose()


def run(lab: Lab) -> Result:
    """Both arms on one catalogue, each with an empty Redis database of its own."""
    stock, absent = (2_000, 10_000) if lab.quick else (20_000, 100_000)
    postgres, server = Postgres("bloom-filter-postgres"), Redis("bloom-filter-redis")
    lab.runtime.start(postgres, server)
    dsn = postgres.ensure_database("catalog", "catalog")
    migrate(dsn)
    return asyncio.run(_compare(lab, dsn, server, stock, absent))


async def _compare(lab: Lab, dsn: str, server: Redis, stock: int, absent: int) -> Result:
    walk = walk_of(stock, absent, lab.random())
    async with (
        Sessions(DatabaseSettings(dsn)) as sessions,
        opened(server.url_of(0)) as shelf,
        opened(server.url_of(1)) as first,
        opened(server.url_of(2)) as second,
    ):
        async with sessions.writing() as session:
            await seed(session, stock, lab.seed)
        lab.note(f"asking {len(walk.present)} products and {absent} ids that do not exist")
        plain = await measure(walk, sessions, first, held=None, random=lab.random())
        lab.note("the same with a filter in front")
        await store_filter(sessions, shelf, stock)
        stored = await stored_filter(shelf)
        held = BloomFilter.from_bytes(stored)
        filtered = await measure(walk, sessions, second, held=held, random=lab.random())
    return judge(walk, plain, filtered, held=held, stored_bytes=len(stored))


def judge(
    walk: Walk, plain: Counted, filtered: Counted, *, held: BloomFilter, stored_bytes: int
) -> Result:
    """The arms, and what is claimed of them."""
    absent, present = len(walk.absent), len(walk.present)
    rate = held.sizing.false_positive_rate(held.added)
    expected = absent * rate
    spread = _DEVIATIONS * math.sqrt(expected * (1 - rate))
    shape = (
        Claim(
            "a cache of absences saves nothing when every id is asked once",
            plain.absent_reads == absent,
            f"{plain.absent_reads} reads for {absent} absent ids",
        ),
        Claim(
            "with the filter, reads for absent ids drop to about the false-positive rate",
            abs(filtered.absent_reads - expected) <= spread,
            f"{filtered.absent_reads} reads; theory {expected:.0f} ± {spread:.0f}",
        ),
        Claim(
            "no product that exists is lost",
            plain.found == filtered.found == present,
            f"{plain.found} and {filtered.found} of {present} found",
        ),
        Claim(
            "the filter keeps absences out of the cache's memory as well",
            filtered.redis_keys == filtered.absent_reads + present
            and plain.redis_keys == absent + present,
            f"{plain.redis_keys} and {filtered.redis_keys} entries",
        ),
    )
    return Result(
        arms=(
            _arm("cache only", "control", plain, absent, None),
            _arm("filter, then cache", "treatment", filtered, absent, stored_bytes),
            Arm("theory", "theory", {"absent_reads": round(expected)}, ((0, expected),)),
        ),
        shape=shape,
        plot=Plot(Axis(""), Axis("database reads for absent ids", log=True), "bars"),
        notes=(
            "A read is one id asked of PostgreSQL; a statement carries those of one request.",
            "A product made later must be added to the filter before it is answered for.",
        ),
    )


def _arm(name: str, role: Role, counted: Counted, absent: int, stored_bytes: int | None) -> Arm:
    figures = {
        "absent_reads": counted.absent_reads,
        "absent_reads_percent": round(100 * counted.absent_reads / absent, 2),
        "present_reads": counted.present_reads,
        "present_found": counted.found,
        "redis_entries": counted.redis_keys,
        "filter_bytes": stored_bytes,
    }
    return Arm(name, role, figures, ((0, counted.absent_reads),))


EXPERIMENT = Experiment(
    slug="bloom-filter",
    question="What does a Bloom filter save the database from ids that do not exist?",
    varied="a filter of all ids, 1 % false positives, in front of the cache or not",
    fixed="the ids and their order, a cold cache that remembers absences, 50 ids a request",
    run=run,
    topics=("D17",),
    needs=("postgres", "redis"),
)
