"""A process that takes a key's lease, says so on stdout, and never gets an answer.

Arguments: the Redis URL, the key, the lease's lifetime in seconds.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from random import Random

from month1_caching_gateway.caching import (
    CacheAside,
    Codec,
    LeasePolicy,
    Policy,
    RedisStore,
    Versioned,
)
from scalelab.clients import redis as redis_client
from scalelab.clock import SystemClock


async def hang(_keys: Sequence[str]) -> dict[str, Versioned[str]]:
    sys.stdout.write("asked\n")
    sys.stdout.flush()
    await asyncio.Event().wait()
    return {}


async def main(url: str, key: str, ttl_s: float) -> None:
    client = redis_client.connect(url, timeout_s=5.0, connect_timeout_s=30.0)
    cache = CacheAside(
        hang,
        RedisStore(client, namespace="bench", clock=SystemClock()),
        Codec(str.encode, bytes.decode),
        policy=Policy(load_timeout_s=ttl_s * 0.9),
        random=Random(1),
        leases=LeasePolicy(ttl_s=ttl_s, wait_s=ttl_s),
    )
    async with cache:
        await cache.get(key)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
