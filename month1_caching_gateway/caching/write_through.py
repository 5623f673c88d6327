"""Write-through: write the source, then leave the new value in the cache for the next reader.

Theory of operation
    `bust` after a write costs the next reader a miss. Here the value that was committed goes into
    the store with its version, in one step with the announcement to other processes. It is stored
    only over what is older, so two writers whose stores arrive in the wrong order leave the newer
    value. If the store is away the fence waits in its place, as after a bust.

Guarantees
    G1  Source first: what is in the cache was committed. A process that dies between the two
        leaves the old value for at most its lifetime.
    G2  A caller that gives up after the commit does not stop the cache from hearing of it.
    G3  After `put` returned, G2 and G3 of cache_aside.py hold for its version.

The trade-off: every value that is written is cached, read or not. For keys that are written more
often than read, `bust` is cheaper. OutcomeUnknown of the source leaves the cache untouched: write
again, the same value does no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from month1_caching_gateway.caching.answers import Versioned
from month1_caching_gateway.caching.cache_aside import CacheAside

T = TypeVar("T")

Write = Callable[[str, T], Awaitable[int]]
"""Commits a value under a key and gives the row's new version."""


class WriteThrough(Generic[T]):
    """Writes through `cache`, which belongs to the caller. write: commits to the source."""

    def __init__(self, cache: CacheAside[T], write: Write[T]) -> None:
        self._cache = cache
        self._write = write
        self._tasks: set[asyncio.Task[int]] = set()

    async def put(self, key: str, value: T) -> int:
        """Commit and cache; the version. Raises what the source raises, never for the store."""
        task = asyncio.create_task(self._put(key, value), name=f"write of {key}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _put(self, key: str, value: T) -> int:
        version = await self._write(key, value)
        await self._cache.replace(key, Versioned(value, version))
        return version
