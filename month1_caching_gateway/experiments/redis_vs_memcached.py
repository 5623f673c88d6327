"""Redis or Memcached behind the same cache: speed, memory, eviction, and what a restart takes.

The same library, entries and keys on both real servers. Counts carry the claims; throughput is
compared within one run, in turns, and only as a wide band.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median

from month1_caching_gateway.caching import Entry, Kind, MemcachedStore, RedisStore, RemoteStore
from scalelab.clients import redis as redis_client
from scalelab.clients.memcached import Memcached as MemcachedClient
from scalelab.clock import SystemClock
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import Memcached, Redis

VALUE_BYTES = 100
ROOM_MB = 16
CALLERS = 32
HOT_KEYS = 200
_HOUR_MS = 3_600_000
_BATCH = 500
_BAND = 5.0


@dataclass(frozen=True, slots=True)
class Counted:
    """bytes_an_item: of the server's own account. offered, kept: items put beyond the room, and
    how many of them stand. hot_kept: of HOT_KEYS that were read all along. restarted: of what
    stood before a restart. late_stored: old reads stored after a write, a restart in between.
    reads_per_s: of each round."""

    bytes_an_item: float
    offered: int
    kept: int
    hot_kept: int
    restarted: int
    late_stored: int
    reads_per_s: tuple[float, ...]


class RedisBed:
    """A Redis with the same room for items, and its own account of what they take."""

    name = "redis"

    def __init__(self, lab: Lab, settings: Mapping[str, str]) -> None:
        self._lab = lab
        self._server = Redis("versus-redis", settings=settings)
        lab.runtime.start(self._server)

    @asynccontextmanager
    async def store(self) -> AsyncGenerator[RemoteStore]:
        """The cache's store on this server."""
        client = redis_client.connect(self._server.url, timeout_s=20.0, connect_timeout_s=20.0)
        yield RedisStore(client, namespace="versus", clock=SystemClock())
        await client.aclose()

    async def used_bytes(self) -> int:
        """Memory of the server's data."""
        client = redis_client.connect(self._server.url, timeout_s=20.0)
        # redis-py leaves its keyword arguments untyped.
        told = await client.info("memory")  # pyright: ignore[reportUnknownMemberType]
        await client.aclose()
        return int(told["used_memory"])

    async def empty(self) -> None:
        """Forget everything."""
        client = redis_client.connect(self._server.url, timeout_s=20.0)
        await client.flushall()  # pyright: ignore[reportUnknownMemberType]
        await client.aclose()

    def restart(self) -> None:
        """An orderly stop and a start."""
        self._lab.runtime.stop(self._server.name)
        self._lab.runtime.restart(self._server.name)


class MemcachedBed:
    """A Memcached with the same room for items."""

    name = "memcached"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._server = Memcached("versus-memcached", memory_mb=ROOM_MB)
        lab.runtime.start(self._server)

    @asynccontextmanager
    async def store(self) -> AsyncGenerator[RemoteStore]:
        """The cache's store on this server."""
        client = MemcachedClient(*self._server.address, timeout_s=20.0, connect_timeout_s=20.0)
        yield MemcachedStore(client, namespace="versus", clock=SystemClock())
        await client.aclose()

    async def used_bytes(self) -> int:
        """Memory of the pages that hold chunks in use: items fill chunks of fixed sizes."""
        _, writer = streams = await asyncio.open_connection(*self._server.address)
        writer.write(b"stats slabs\r\n")
        said = (await streams[0].readuntil(b"END\r\n")).decode().splitlines()
        writer.close()
        await writer.wait_closed()
        stats = dict(line.split()[1:3] for line in said if line.startswith("STAT "))
        sizes = {name.split(":")[0]: int(v) for name, v in stats.items() if "chunk_size" in name}
        used = {name.split(":")[0]: int(v) for name, v in stats.items() if "used_chunks" in name}
        return sum(sizes[slab] * used[slab] for slab in sizes)

    async def empty(self) -> None:
        """Nothing to do: each question starts on what a restart left."""
        self.restart()

    def restart(self) -> None:
        """An orderly stop and a start."""
        self._lab.runtime.stop(self._server.name)
        self._lab.runtime.restart(self._server.name)


Bed = RedisBed | MemcachedBed


async def fill(store: RemoteStore, keys: Sequence[str], hot: Sequence[str] = ()) -> None:
    """Put a value under every key, and read the hot keys again after each batch."""
    entry = Entry(Kind.VALUE, 1, bytes(VALUE_BYTES))
    for start in range(0, len(keys), _BATCH):
        await store.put(dict.fromkeys(keys[start : start + _BATCH], (entry, _HOUR_MS)))
        if hot:
            await store.read(hot)


async def standing(store: RemoteStore, keys: Sequence[str]) -> int:
    """How many of the keys have an entry."""
    found = 0
    for start in range(0, len(keys), _BATCH):
        found += len(await store.read(keys[start : start + _BATCH]) or {})
    return found


async def reads_per_s(store: RemoteStore, keys: Sequence[str], rounds: int) -> float:
    """So many callers, each reading one key at a time."""

    async def caller(number: int) -> None:
        for turn in range(rounds):
            await store.read([keys[(number * 31 + turn) % len(keys)]])

    begun_s = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    return CALLERS * rounds / (time.perf_counter() - begun_s)


async def measure(bed: Bed, *, items: int, rounds: int) -> Counted:
    """Every question to one server."""
    keys = [f"item-{number:08}" for number in range(items)]
    hot = [f"hot-{number:08}" for number in range(HOT_KEYS)]
    async with bed.store() as store:
        before = await bed.used_bytes()
        await fill(store, keys)
        bytes_an_item = (await bed.used_bytes() - before) / items
        speeds = tuple([await reads_per_s(store, keys, rounds) for _ in range(5)])
    await asyncio.to_thread(bed.restart)
    async with bed.store() as store:
        restarted = await standing(store, keys)
        late_stored = await _late_fill(bed, store)
    await bed.empty()
    async with bed.store() as store:
        offered = [f"more-{number:08}" for number in range(3 * ROOM_MB * 2**20 // 250)]
        await fill(store, hot)
        await fill(store, offered, hot)
        return Counted(
            bytes_an_item,
            len(offered),
            await standing(store, offered),
            await standing(store, hot),
            restarted,
            late_stored,
            speeds,
        )


async def _late_fill(bed: Bed, store: RemoteStore) -> int:
    """A write fences a key; the server restarts; an old read comes to be stored. 1: it was."""
    await store.fence("raced", 2, _HOUR_MS)
    await asyncio.to_thread(bed.restart)
    async with bed.store() as reader:
        stored = await reader.put({"raced": (Entry(Kind.VALUE, 1, b"old"), _HOUR_MS)})
    return len(stored or ())


async def refused_when_full(lab: Lab) -> tuple[int, int]:
    """Redis told never to evict: puts that failed, and whether the first item still stands."""
    settings = {"maxmemory": "4mb", "maxmemory-policy": "noeviction"}
    server = Redis("versus-noeviction", settings=settings)
    lab.runtime.start(server)
    client = redis_client.connect(server.url, timeout_s=20.0)
    store = RedisStore(client, namespace="full", clock=SystemClock())
    entry = Entry(Kind.VALUE, 1, bytes(20_000))
    failed = 0
    for number in range(400):
        failed += await store.put({f"k{number}": (entry, _HOUR_MS)}) is None
    await client.aclose()
    fresh = redis_client.connect(server.url, timeout_s=20.0)
    first = await RedisStore(fresh, namespace="full", clock=SystemClock()).read(["k0"])
    await fresh.aclose()
    return failed, len(first or {})


def run(lab: Lab) -> Result:
    """Both servers, one after the other, then the Redis that refuses."""
    # Acknowledged is on disk: what a restart keeps is not left to the second it comes in.
    settings = {
        "maxmemory": f"{ROOM_MB}mb",
        "maxmemory-policy": "allkeys-lru",
        "appendfsync": "always",
    }
    items, rounds = (10_000, 40) if lab.quick else (30_000, 400)
    beds: tuple[Bed, ...] = (RedisBed(lab, settings), MemcachedBed(lab))
    counted: dict[str, Counted] = {}
    for bed in beds:
        counted[bed.name] = asyncio.run(measure(bed, items=items, rounds=rounds))
        lab.note(f"{bed.name}: {counted[bed.name]}")
    failed, first = asyncio.run(refused_when_full(lab))
    return judge(counted, items=items, failed=failed, first=first)


def judge(counted: dict[str, Counted], *, items: int, failed: int, first: int) -> Result:
    """The arms, and what is claimed of them."""
    ours, theirs = counted["redis"], counted["memcached"]
    ratio = median(ours.reads_per_s) / median(theirs.reads_per_s)
    shape = (
        Claim(
            f"Neither answers {_BAND:.0f} times as many reads a second as the other.",
            1 / _BAND < ratio < _BAND,
            f"Redis answers {ratio:.2f} times as many at {CALLERS} callers",
        ),
        Claim(
            "Both take more memory than what is stored, Memcached less than Redis.",
            VALUE_BYTES < theirs.bytes_an_item < ours.bytes_an_item,
            f"{theirs.bytes_an_item:.0f} and {ours.bytes_an_item:.0f} bytes an item",
        ),
        Claim(
            "Full, both forget old items and go on, and keep what is read all along.",
            all(0 < one.kept < one.offered for one in counted.values())
            and min(one.hot_kept for one in counted.values()) >= HOT_KEYS * 0.9,
            "; ".join(
                f"{name}: {one.kept} of {one.offered} kept, {one.hot_kept} of {HOT_KEYS} hot"
                for name, one in counted.items()
            ),
        ),
        Claim(
            "A Redis that may not evict refuses what is new and keeps what is old.",
            failed > 0 and first == 1,
            f"{failed} puts failed or were spared by the breaker; the first item stands: "
            f"{first == 1}",
        ),
        Claim(
            "A restart takes everything from Memcached and nothing from Redis with its log.",
            (ours.restarted, theirs.restarted) == (items, 0),
            f"{ours.restarted} and {theirs.restarted} of {items} items",
        ),
        Claim(
            "A restart takes Memcached's fences too: an old read is stored after it.",
            (ours.late_stored, theirs.late_stored) == (0, 1),
            f"stored: {ours.late_stored} in Redis, {theirs.late_stored} in Memcached",
        ),
    )
    return Result(
        arms=(_arm("redis", "control", ours), _arm("memcached", "treatment", theirs)),
        shape=shape,
        plot=Plot(Axis(""), Axis("memory of one 100 byte item (bytes)"), "bars"),
        notes=(
            f"An item: {VALUE_BYTES} bytes of value, a 29 byte header, a 20 byte key, a lifetime.",
            "Redis takes one thread, Memcached two; the client is the bottleneck of both.",
        ),
    )


def _arm(name: str, role: str, one: Counted) -> Arm:
    figures = {
        "bytes_an_item": round(one.bytes_an_item),
        "reads_per_s": round(median(one.reads_per_s)),
        "kept_when_full": one.kept,
        "hot_kept": one.hot_kept,
        "kept_over_restart": one.restarted,
        "old_read_stored": one.late_stored,
    }
    return Arm(
        name, "control" if role == "control" else "treatment", figures, ((0, one.bytes_an_item),)
    )


EXPERIMENT = Experiment(
    slug="redis-vs-memcached",
    question="What does the cache gain and lose when Memcached stands in the place of Redis?",
    varied="the server behind the cache's store",
    fixed=f"library, keys, values, {ROOM_MB} MB of room, {CALLERS} callers",
    run=run,
    topics=("A2",),
    needs=("redis", "memcached"),
)
