"""Entries in Redis: one MGET for a turn's reads, one script call for compare and store.

A write is announced on a channel in the same step that fences the key, so every process that
listens hears of it (invalidation.py). Leases of keys (leases.py) live beside the entries, under
`lease:namespace:`.

Redis in cluster mode is not supported: one script call carries keys of several slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from redis.asyncio import Redis

from month1_caching_gateway.caching.entries import encode
from month1_caching_gateway.caching.events import Hook, ignore
from month1_caching_gateway.caching.remote_store import BREAKER, Lifetimes, RemoteStore
from scalelab.clients.redis import map_errors
from scalelab.clock import Clock
from scalelab.resilience.circuit_breaker import BreakerPolicy

_BATCH = 500
"""Keys of one script call: a few hundred microseconds of Redis's only thread."""

ENTRY_LIMIT_BYTES = 8 * 2**20
"""Redis would take 512 MB; one such answer holds up everybody else on its only thread."""


class RedisStore(RemoteStore):
    """Entries under `namespace:`. The Redis client is the caller's, with deadlines, and stays open.

    namespace: name and version of what is stored; raise the version when the payload's form
    changes. breaker: when to stop asking. parallel: commands under way, at most the client's
    connections; the next wait, at most for one time-out. waiting_limit: undelivered fences kept.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        namespace: str,
        clock: Clock,
        hook: Hook = ignore,
        breaker: BreakerPolicy = BREAKER,
        parallel: int = 32,
        waiting_limit: int = 10_000,
    ) -> None:
        super().__init__(
            clock=clock,
            hook=hook,
            breaker=breaker,
            parallel=parallel,
            waiting_limit=waiting_limit,
            entry_limit_bytes=ENTRY_LIMIT_BYTES,
        )
        self._redis = redis
        self._prefix = namespace + ":"
        self._lease_prefix = f"lease:{namespace}:"
        self._channel = channel_of(redis, namespace)
        self._put_script = redis.register_script(_read_script("put.lua"))
        self._drop_script = redis.register_script(_read_script("drop_leases.lua"))

    async def _fetch(self, keys: Sequence[str]) -> dict[str, bytes]:
        with map_errors(read_only=True):
            found = await self._redis.mget([self._prefix + key for key in keys])
        raws = cast("list[bytes | None]", found)
        return {key: raw for key, raw in zip(keys, raws, strict=True) if raw is not None}

    async def _put(self, entries: Lifetimes, *, announce: bool) -> set[str]:
        stored: set[str] = set()
        items = list(entries.items())
        for start in range(0, len(items), _BATCH):
            batch = items[start : start + _BATCH]
            names = [self._prefix + key for key, _ in batch]
            arguments: list[bytes | int | str] = []
            for _, (entry, lifetime_ms) in batch:
                arguments += (encode(entry), lifetime_ms)
            arguments.append(self._channel if announce else "")
            with map_errors():
                outcomes = cast("list[int]", await self._put_script(keys=names, args=arguments))
            stored |= {key for (key, _), done in zip(batch, outcomes, strict=True) if done}
        return stored

    async def _take(self, keys: Sequence[str], token: str, ttl_ms: int) -> set[str]:
        with map_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.set(self._lease_prefix + key, token, px=ttl_ms, nx=True)
                taken = cast("list[bool | None]", await pipeline.execute())
        return {key for key, outcome in zip(keys, taken, strict=True) if outcome}

    async def _drop(self, keys: Sequence[str], token: str) -> None:
        names = [self._lease_prefix + key for key in keys]
        with map_errors():
            await self._drop_script(keys=names, args=[token])


def channel_of(redis: Redis, namespace: str) -> str:
    """The channel on which writes of a namespace are announced. Channels know no databases, so
    the number is part of the name."""
    database: int = redis.connection_pool.connection_kwargs.get("db", 0)
    return f"busted:{database}:{namespace}"


def _read_script(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
