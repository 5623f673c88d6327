"""One of the processes of the experiment cache-stampede: many callers, one cold key.

The source answers only when every caller of every process has missed. So the number of asks does
not depend on how quick the machine is, only on what stands between the callers and the source.

Environment: STAMPEDE_REDIS_URL. Arguments: the arm, callers in this process, processes, a
name that only this crowd uses. Prints one JSON object: `asked` (calls of the source by this
process), `answered`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from random import Random

from redis.asyncio import Redis

from month1_caching_gateway.caching import (
    CacheAside,
    CacheEvent,
    Codec,
    Entry,
    Kind,
    LeasePolicy,
    Looked,
    Outcome,
    Policy,
    RedisStore,
    Versioned,
)
from scalelab.clients import redis as redis_client
from scalelab.clock import SystemClock
from scalelab.errors import Unavailable

KEY = "hot"
ARMS = ("naive", "single-flight", "lease")
POLICY = Policy(load_timeout_s=50.0, fence_ttl_s=60.0)
LEASES = LeasePolicy(ttl_s=55.0, wait_s=55.0)


class Origin:
    """The source: counts its calls and holds them until all callers everywhere have missed."""

    def __init__(self, redis: Redis, name: str, *, callers: int, processes: int) -> None:
        self.asked = 0
        self._redis = redis
        self._name = name
        self._callers = callers
        self._processes = processes
        self._missed = 0
        self._all_here_missed = asyncio.Event()
        self._all_missed = asyncio.Event()

    def miss(self, keys: int) -> None:
        """So many callers of this process have found nothing."""
        self._missed += keys
        if self._missed >= self._callers:
            self._all_here_missed.set()

    def on_event(self, event: CacheEvent) -> None:
        """The cache's hook: learn who missed."""
        if isinstance(event, Looked) and event.outcome is not Outcome.HIT:
            self.miss(event.keys)

    async def meet(self) -> None:
        """Wait for the other processes; the last one that arrives lets all of them go."""
        await self._all_here_missed.wait()
        gate = f"{self._name}:gate"
        if await self._redis.incr(f"{self._name}:arrived") == self._processes:
            await self._redis.rpush(gate, *(["go"] * self._processes))
        if await self._redis.blpop([gate], timeout=40) is None:
            raise Unavailable("another process of the crowd did not come")
        self._all_missed.set()

    async def read(self, keys: Sequence[str]) -> dict[str, Versioned[str]]:
        """The rows, when the last caller has missed."""
        self.asked += 1
        await self._all_missed.wait()
        return {key: Versioned("row", 1) for key in keys}


async def naive(origin: Origin, store: RedisStore) -> None:
    """One caller of the cache everybody writes first: look, ask, store."""
    found = await store.read([KEY])
    if not found:
        origin.miss(1)
        rows = await origin.read([KEY])
        entry = Entry(Kind.VALUE, rows[KEY].version, rows[KEY].value.encode())
        await store.put({KEY: (entry, 60_000)})


async def crowd(arm: str, url: str, name: str, *, callers: int, processes: int) -> dict[str, int]:
    """Let the callers loose and wait for them; what happened here."""
    client = redis_client.connect(url, timeout_s=45.0, connect_timeout_s=20.0, max_connections=1000)
    origin = Origin(client, name, callers=callers, processes=processes)
    store = RedisStore(client, namespace=name, clock=SystemClock())
    cache = CacheAside(
        origin.read,
        store,
        Codec(str.encode, bytes.decode),
        policy=POLICY,
        random=Random(os.getpid()),
        leases=LEASES if arm == "lease" else None,
        hook=origin.on_event,
    )
    try:
        async with asyncio.timeout(45), cache, asyncio.TaskGroup() as group:
            group.create_task(origin.meet())
            for _ in range(callers):
                group.create_task(naive(origin, store) if arm == "naive" else _ask(cache))
    finally:
        await client.aclose()
    return {"asked": origin.asked, "answered": callers}


async def _ask(cache: CacheAside[str]) -> None:
    await cache.get(KEY)


def main() -> None:
    """The process's entry."""
    arm, name = sys.argv[1], sys.argv[4]
    callers, processes = int(sys.argv[2]), int(sys.argv[3])
    url = os.environ["STAMPEDE_REDIS_URL"]
    result = asyncio.run(crowd(arm, url, name, callers=callers, processes=processes))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
