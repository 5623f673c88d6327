"""Read-through: the caller knows only the cache, and what it loads has no versions of its own.

Theory of operation
    CacheAside compares versions of the source's rows. A page that was rendered, an answer of
    somebody else's API, a sum over many rows has none. Here the version of a value is the instant
    at which its load *began*, in microseconds: what began later has seen more. `invalidate` fences
    at the present instant, so a load that began before it is refused wherever it ends.

Guarantees
    G1  As CacheAside: a dead store fails no lookup; a load fails only its own callers.
    G2  After `invalidate(key)` returned True nobody stores what began to load before it, and
        nobody is served it, as long as the clocks of the processes differ by less than `skew_s`.
        For skew_s after it the key is loaded and not yet kept: the price of that margin.

A clock that steps back by more than skew_s makes new values look old: they are served and not
kept until it has caught up, or the lifetime has ended. With real versions use CacheAside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from types import TracebackType
from typing import Generic, TypeVar

from month1_caching_gateway.caching.answers import Answer, Codec, Versioned
from month1_caching_gateway.caching.cache_aside import CacheAside
from month1_caching_gateway.caching.entries import Policy
from month1_caching_gateway.caching.events import Hook, ignore
from month1_caching_gateway.caching.leases import LeasePolicy
from month1_caching_gateway.caching.process_tier import ProcessTier
from month1_caching_gateway.caching.remote_store import RemoteStore
from scalelab.clock import Clock
from scalelab.errors import InvalidInput

T = TypeVar("T")

Load = Callable[[str], Awaitable[T | None]]
"""A key's value; None: there is no such thing, which is remembered too."""


class ReadThrough(Generic[T]):
    """A cache that loads by itself; an async context manager that owns its loads.

    skew_s: by how much two processes' clocks may differ, >= 0. See CacheAside for the rest.
    """

    def __init__(
        self,
        load: Load[T],
        store: RemoteStore,
        codec: Codec[T],
        *,
        policy: Policy,
        random: Random,
        skew_s: float = 0.05,
        leases: LeasePolicy | None = None,
        near: ProcessTier[Answer[T]] | None = None,
        hook: Hook = ignore,
    ) -> None:
        if skew_s < 0:
            raise InvalidInput(f"clocks do not differ by {skew_s} s", field="skew_s")
        self._load = load
        self._clock = store.clock
        self._skew_us = round(skew_s * 1e6)
        self._cache: CacheAside[T] = CacheAside(
            self._load_all,
            store,
            codec,
            policy=policy,
            random=random,
            leases=leases,
            near=near,
            hook=hook,
        )

    async def __aenter__(self) -> ReadThrough[T]:
        await self._cache.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._cache.__aexit__(kind, error, trace)

    def get_now(self, key: str) -> Answer[T] | None:
        """The answer if it stands in this process's tier. Never waits."""
        return self._cache.get_now(key)

    async def get(self, key: str) -> T | None:
        """The value, loaded if need be. Raises what the load raises."""
        return (await self._cache.get(key)).value

    async def get_many(self, keys: Sequence[str]) -> dict[str, T | None]:
        """The values, one command to the store; what is missing is loaded at once, key by key."""
        return {key: one.value for key, one in (await self._cache.get_many(keys)).items()}

    async def invalidate(self, key: str) -> bool:
        """What is known of `key` is old from now on. Whether the store has it (G2)."""
        return await self._cache.bust(key, _version(self._clock) + self._skew_us)

    async def _load_all(self, keys: Sequence[str]) -> dict[str, Versioned[T]]:
        version = _version(self._clock)
        values = await asyncio.gather(*(self._load(key) for key in keys))
        return {
            key: Versioned(value, version)
            for key, value in zip(keys, values, strict=True)
            if value is not None
        }


def _version(clock: Clock) -> int:
    return int(clock.now().timestamp() * 1e6)
