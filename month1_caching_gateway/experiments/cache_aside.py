"""How many reads does a cache save, and how many of its answers are older than a write?

Two questions of one cache on a real Redis. Hits: Zipf keys are read from a cache with a lifetime,
without writes and with every tenth request a write that busts; time is counted in requests, so the
counts depend on no machine. Staleness: writes are scripted beside reads, some of them into the gap
between a reader's look at the source and its store. What is read afterwards is compared with what
was committed.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Protocol

from redis.asyncio import Redis as RedisClient

from month1_caching_gateway.caching import CacheAside, Codec, Outcome, Policy, RedisStore, Versioned
from scalelab.clients import redis
from scalelab.clock import ManualClock, SystemClock
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result, Role
from scalelab.lab.servers import Redis

KEYS = 500
TTL_REQUESTS = 250
WRITE_SHARE = 0.1
SKEWS = (0.0, 0.6, 0.9, 1.2)
LATER_READS = 5
_TOLERANCE = 0.05
_TTL_MS = 600_000


class Table:
    """The source: rows with versions, reads counted; a read can be held before it answers."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}
        self.reads = 0
        self.hold: asyncio.Event | None = None
        self.taken = asyncio.Event()

    def commit(self, key: str) -> int:
        """Write a row; its version."""
        self.versions[key] = self.versions.get(key, 0) + 1
        return self.versions[key]

    async def read(self, keys: Sequence[str]) -> dict[str, Versioned[int]]:
        """The rows as they are now, given after the hold."""
        self.reads += 1
        found = {key: Versioned(self.versions[key], self.versions[key]) for key in keys}
        self.taken.set()
        if self.hold is not None:
            await self.hold.wait()
        return found


class Cache(Protocol):
    """One way to read rows, and what a writer does after its commit."""

    async def get(self, key: str) -> int:
        """The version that a reader is shown."""
        ...

    async def written(self, key: str, version: int) -> None:
        """A commit is done."""
        ...


class NoCache:
    """Every read goes to the source."""

    def __init__(self, table: Table, _client: RedisClient) -> None:
        self._table = table

    async def get(self, key: str) -> int:
        """Ask the source."""
        return (await self._table.read([key]))[key].version

    async def written(self, key: str, version: int) -> None:
        """Nothing to do."""


class TtlOnly:
    """Look, ask, store with a lifetime; a writer tells nobody."""

    def __init__(self, table: Table, client: RedisClient) -> None:
        self._table = table
        self._client = client

    async def get(self, key: str) -> int:
        """Look, and on a miss ask and store."""
        found = await self._client.get(key)
        if found is None:
            version = (await self._table.read([key]))[key].version
            await self._client.set(key, version, px=_TTL_MS)
            return version
        return int(found)

    async def written(self, key: str, version: int) -> None:
        """Left to the lifetime."""


class Deleting(TtlOnly):
    """The same, and the writer deletes the key: the cache everybody writes first."""

    async def written(self, key: str, version: int) -> None:
        """Remove what stands now."""
        await self._client.delete(key)


class Fencing:
    """The library: the writer fences, a late store of an old read is refused."""

    def __init__(self, table: Table, client: RedisClient) -> None:
        self._cache = _cache(table, client, SystemClock(), Policy(ttl_s=_TTL_MS / 1000))

    async def get(self, key: str) -> int:
        """Through the cache."""
        return (await self._cache.get(key)).value or 0

    async def written(self, key: str, version: int) -> None:
        """Bust, with the version."""
        await self._cache.bust(key, version)


@dataclass(frozen=True, slots=True)
class Counted:
    """reads, stale: what readers asked and what of it was older than a commit that was announced
    before they asked. loads: calls of the source."""

    reads: int
    stale: int
    loads: int


_ARMS: dict[str, tuple[Role, type[NoCache | TtlOnly | Fencing]]] = {
    "no cache": ("control", NoCache),
    "lifetime only": ("treatment", TtlOnly),
    "lifetime and delete": ("treatment", Deleting),
    "lifetime and fence": ("treatment", Fencing),
}


async def staleness(made: Cache, table: Table, *, writes: int, races: int) -> Counted:
    """One key for each write. In `races` of them a reader stands between its look at the source
    and its store while the write is committed and announced."""
    reads = stale = 0
    for number in range(writes):
        key = f"row-{number}"
        table.commit(key)
        table.hold = asyncio.Event() if number < races else None
        table.taken.clear()
        first = asyncio.create_task(made.get(key))
        await table.taken.wait()
        if table.hold is None:
            await first
        version = table.commit(key)
        await made.written(key, version)
        if table.hold is not None:
            table.hold.set()
            table.hold = None
            await first
        for _ in range(LATER_READS):
            stale += await made.get(key) < version
        reads += 1 + LATER_READS
    return Counted(reads, stale, table.reads)


async def hit_ratio(
    client: RedisClient, *, skew: float, write_share: float, requests: int, random: Random
) -> float:
    """The share of reads that the cache answers. One request is one millisecond of virtual time."""
    table, clock = Table(), ManualClock()
    names = [f"k{number}" for number in range(KEYS)]
    for name in names:
        table.commit(name)
    # The store keeps values longer than any run; whether one is fresh is judged on our clock.
    policy = Policy(
        ttl_s=TTL_REQUESTS / 1000, jitter=0.0, stale_if_error_s=3600.0, fence_ttl_s=3600.0
    )
    cache = _cache(table, client, clock, policy)
    reads = hits = 0
    for name in random.choices(names, weights=zipf(skew), k=requests):
        clock.advance(0.001)
        if random.random() < write_share:
            await cache.bust(name, table.commit(name))
            continue
        answer = await cache.get(name)
        reads += 1
        hits += answer.outcome is Outcome.HIT
    return hits / reads


def zipf(skew: float) -> list[float]:
    """Shares of the keys, most popular first; they sum to 1."""
    weights = [1 / rank**skew for rank in range(1, KEYS + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]


def expected_ratio(skew: float, write_share: float) -> float:
    """For each key: reads come at rate r, writes at rate u per request, and an entry lives until
    its time or the next write: E = (1 - exp(-u T)) / u on average. A cycle is one miss and r E
    hits. Reads weigh by their share."""
    total = 0.0
    for share in zipf(skew):
        r, u = share * (1 - write_share), share * write_share
        life = (1 - math.exp(-u * TTL_REQUESTS)) / u if u else TTL_REQUESTS
        total += share * r * life / (1 + r * life)
    return total


def run(lab: Lab) -> Result:
    """Both questions, each arm in a Redis database of its own."""
    server = Redis("cache-aside")
    lab.runtime.start(server)
    return asyncio.run(_run(lab, server))


async def _run(lab: Lab, server: Redis) -> Result:
    databases = itertools.count(1)
    writes, races, requests = (60, 20, 2_500) if lab.quick else (600, 200, 10_000)
    counted: dict[str, Counted] = {}
    for name, (_, kind) in _ARMS.items():
        async with _opened(server.url_of(next(databases))) as client:
            table = Table()
            counted[name] = await staleness(kind(table, client), table, writes=writes, races=races)
        lab.note(f"{name}: {counted[name].stale} stale reads, {counted[name].loads} loads")
    ratios: dict[float, list[tuple[float, float]]] = {0.0: [], WRITE_SHARE: []}
    for write_share, skew in itertools.product(ratios, SKEWS):
        async with _opened(server.url_of(next(databases))) as client:
            ratio = await hit_ratio(
                client,
                skew=skew,
                write_share=write_share,
                requests=requests,
                random=lab.random(),
            )
        ratios[write_share].append((skew, ratio))
        lab.note(f"skew {skew}, {write_share:.0%} writes: {ratio:.1%} hits")
    return judge(counted, ratios, writes=writes, races=races)


def judge(
    counted: dict[str, Counted],
    ratios: dict[float, list[tuple[float, float]]],
    *,
    writes: int,
    races: int,
) -> Result:
    """The arms, and what is claimed of them."""
    points = {
        "no cache": tuple((skew, 0.0) for skew in SKEWS),
        "lifetime only": tuple(ratios[0.0]),
        "lifetime and fence": tuple(ratios[WRITE_SHARE]),
    }
    arms = [
        Arm(name, role, _figures(counted[name]), points.get(name, ()))
        for name, (role, _) in _ARMS.items()
    ]
    for share, what in ((0.0, "no writes"), (WRITE_SHARE, "a tenth writes")):
        line = tuple((skew, expected_ratio(skew, share)) for skew in SKEWS)
        arms.append(Arm(f"theory, {what}", "theory", {}, line))
    return Result(
        arms=tuple(arms),
        shape=(*_stale_claims(counted, writes=writes, races=races), *_hit_claims(ratios)),
        plot=Plot(Axis("skew of the keys (Zipf exponent)"), Axis("share of reads that hit")),
        notes=(
            f"{KEYS} keys, a lifetime of {TTL_REQUESTS} requests; a cold start is in every figure.",
            "Stale counts are of the scripted writes, hits of the Zipf reads.",
        ),
    )


def _stale_claims(counted: dict[str, Counted], *, writes: int, races: int) -> tuple[Claim, ...]:
    expected = {
        "no cache": ("Without a cache nothing is stale and every read is a load", 0, 6 * writes),
        "lifetime only": (
            "With a lifetime alone every read after a write is stale",
            LATER_READS * writes,
            writes,
        ),
        "lifetime and delete": (
            "Deleting leaves the old value wherever a reader stood in between",
            LATER_READS * races,
            races + 2 * (writes - races),
        ),
        "lifetime and fence": ("With fences no read is stale, for one load a race", 0, 2 * writes),
    }
    return tuple(
        Claim(
            f"{sentence}.",
            (counted[name].stale, counted[name].loads) == (stale, loads),
            f"{counted[name].stale} of {counted[name].reads} reads stale, "
            f"{counted[name].loads} loads; expected exactly {stale} and {loads}",
        )
        for name, (sentence, stale, loads) in expected.items()
    )


def _hit_claims(ratios: dict[float, list[tuple[float, float]]]) -> tuple[Claim, ...]:
    gaps = [
        abs(ratio - expected_ratio(skew, share))
        for share, points in ratios.items()
        for skew, ratio in points
    ]
    plain = [ratio for _, ratio in ratios[0.0]]
    busted = [ratio for _, ratio in ratios[WRITE_SHARE]]
    return (
        Claim(
            "The more skewed the keys, the more reads hit.",
            plain == sorted(plain) and busted == sorted(busted),
            " < ".join(f"{ratio:.1%}" for ratio in plain),
        ),
        Claim(
            f"Every share of hits is within {_TOLERANCE:.0%} points of the theory.",
            max(gaps) <= _TOLERANCE,
            f"the widest gap is {max(gaps):.1%} points",
        ),
        Claim(
            "Busting on write costs hits where the same keys are read and written.",
            plain[-1] > busted[-1],
            f"at skew {SKEWS[-1]}: {plain[-1]:.1%} without writes, {busted[-1]:.1%} with",
        ),
    )


def _figures(counted: Counted) -> dict[str, int]:
    return {"reads": counted.reads, "stale_reads": counted.stale, "loads": counted.loads}


def _cache(
    table: Table, client: RedisClient, clock: SystemClock | ManualClock, policy: Policy
) -> CacheAside[int]:
    return CacheAside(
        table.read,
        RedisStore(client, namespace="rows", clock=clock),
        Codec(lambda version: b"%d" % version, int),
        policy=policy,
        random=Random(1),
    )


@asynccontextmanager
async def _opened(url: str) -> AsyncGenerator[RedisClient]:
    """A client with a patient deadline: a busy machine must not cost entries."""
    client = redis.connect(url, timeout_s=20.0, connect_timeout_s=20.0)
    try:
        yield client
    finally:
        await client.aclose()


EXPERIMENT = Experiment(
    slug="cache-aside",
    question="How many reads does a cache save, and how many of its answers are stale?",
    varied="what a writer does to the cache after its commit; the skew of the keys",
    fixed="one Redis, the same scripted writes and reads, one lifetime counted in requests",
    run=run,
    topics=("A2", "P4.3"),
    needs=("redis",),
)
