"""Entries in Redis: read many, put many, and fence after a write. Redis may be gone at any time.

No method raises because of Redis: a failed read or put is told to the hook and answered with
None or nothing, and the caller goes to the source. When half of the last second's commands
failed, a breaker stops asking, so that requests do not pay the time-out one after the other;
then one caller tries, and until it has an answer all others go to the source as before.

A fence that could not be delivered waits here, at most `waiting_limit` keys, and is delivered
before anything else is asked once Redis is back. Until then this process does not believe what
Redis says about that key. If the process dies first, or the limit is passed, only the entry's
lifetime bounds the staleness.

Leases of keys (leases.py) live beside the entries, under `lease:namespace:`.

Redis in cluster mode is not supported: one script call carries keys of several slots.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast

from redis.asyncio import Redis

from month1_caching_gateway.caching.entries import Entry, Kind, decode, encode
from month1_caching_gateway.caching.events import (
    EntryUnreadable,
    FencesWaiting,
    FillRefused,
    Hook,
    StoreFailed,
    ignore,
)
from scalelab.clients.redis import map_errors
from scalelab.clock import Clock
from scalelab.errors import CorruptData, ScalelabError
from scalelab.resilience.circuit_breaker import Breaker, BreakerPolicy, answer, ask
from scalelab.resilience.circuit_breaker import Outcome as Verdict

T = TypeVar("T")

BREAKER = BreakerPolicy(failure_ratio=0.5, min_calls=1, window_s=1.0, open_s=1.0, probes=1)
"""In quiet traffic one failure opens it: a second without a cache costs little there. In busy
traffic it takes half of the last second's commands."""

_BATCH = 500
"""Keys of one script call: a few hundred microseconds of Redis's only thread."""


class RedisStore:
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
        self._redis = redis
        self._prefix = namespace + ":"
        self._hook = hook
        self._clock = clock
        self._breaker_policy = breaker
        self._breaker = Breaker()
        self._places = asyncio.Semaphore(parallel)
        self._lease_prefix = f"lease:{namespace}:"
        self._put_script = redis.register_script(_read_script("put.lua"))
        self._drop_script = redis.register_script(_read_script("drop_leases.lua"))
        self._waiting: dict[str, tuple[Entry, int]] = {}
        self._waiting_limit = waiting_limit
        self._is_delivering = False

    async def read(self, keys: Sequence[str]) -> dict[str, Entry] | None:
        """What stands under these keys, fences included, in one MGET; None: Redis cannot say."""
        names = [self._prefix + key for key in keys]
        found = await self._ask("read", lambda: self._redis.mget(names))
        if found is None:
            return None
        entries: dict[str, Entry] = {}
        for key, raw in zip(keys, cast("list[bytes | None]", found), strict=True):
            entry = None if raw is None else self._decode(key, raw)
            if entry is not None and not self._is_outdated(key, entry):
                entries[key] = entry
        return entries

    async def put(self, entries: Mapping[str, tuple[Entry, int]]) -> None:
        """Store entries (with their lifetime in ms) where no newer one stands."""
        current = {
            key: (entry, lifetime_ms)
            for key, (entry, lifetime_ms) in entries.items()
            if not self._is_outdated(key, entry)
        }
        stored = await self._ask("put", lambda: self._run_put(current))
        if stored is not None:
            refused = len(entries) - stored
            if refused:
                self._hook(FillRefused(refused))

    async def fence(self, key: str, version: int, lifetime_ms: int) -> bool:
        """Let nothing below `version` stand or be stored under `key`.

        True: Redis has it. False: it waits here and is delivered when Redis is back.
        """
        entry = Entry(Kind.FENCE, version)
        stored = await self._ask("fence", lambda: self._run_put({key: (entry, lifetime_ms)}))
        if stored is None:
            self._keep_waiting(key, entry, lifetime_ms)
        return stored is not None

    async def take_leases(self, keys: Sequence[str], token: str, ttl_ms: int) -> set[str] | None:
        """The keys whose lease is now `token`'s, for `ttl_ms`; None: Redis cannot say."""
        taken = await self._ask("take_leases", lambda: self._run_take(keys, token, ttl_ms))
        if taken is None:
            return None
        return {key for key, outcome in zip(keys, taken, strict=True) if outcome}

    async def drop_leases(self, keys: Sequence[str], token: str) -> None:
        """Give back what is still `token`'s. If Redis is away the leases lapse by themselves."""
        names = [self._lease_prefix + key for key in keys]
        await self._ask("drop_leases", lambda: self._drop_script(keys=names, args=[token]))

    async def _run_take(self, keys: Sequence[str], token: str, ttl_ms: int) -> list[bool | None]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.set(self._lease_prefix + key, token, px=ttl_ms, nx=True)
            return cast("list[bool | None]", await pipeline.execute())

    async def _ask(self, operation: str, command: Callable[[], Awaitable[T]]) -> T | None:
        async with self._places:  # first the place: who waited sees what the breaker learnt
            now_s = self._clock.monotonic_s()
            self._breaker, admission = ask(self._breaker, self._breaker_policy, now_s=now_s)
            if not admission.admitted:
                return None
            verdict = Verdict.NEUTRAL  # stands if we are cancelled: that says nothing about Redis
            try:
                with map_errors():
                    await self._deliver_waiting()
                    result = await command()
                verdict = Verdict.SUCCESS
            except ScalelabError as error:
                verdict = Verdict.FAILURE
                self._hook(StoreFailed(operation, error.stable_code))
                return None
            finally:
                now_s, generation = self._clock.monotonic_s(), admission.generation
                policy = self._breaker_policy
                self._breaker = answer(self._breaker, policy, generation, verdict, now_s=now_s)
            return result

    async def _run_put(self, entries: Mapping[str, tuple[Entry, int]]) -> int:
        """How many of the entries were stored."""
        stored = 0
        items = list(entries.items())
        for start in range(0, len(items), _BATCH):
            batch = items[start : start + _BATCH]
            names = [self._prefix + key for key, _ in batch]
            arguments: list[bytes | int] = []
            for _, (entry, lifetime_ms) in batch:
                arguments += (encode(entry), lifetime_ms)
            outcomes = await self._put_script(keys=names, args=arguments)
            stored += sum(cast("list[int]", outcomes))
        return stored

    async def _deliver_waiting(self) -> None:
        if not self._waiting or self._is_delivering:
            return
        self._is_delivering = True
        try:
            batch = dict(self._waiting)
            await self._run_put(batch)
        finally:
            self._is_delivering = False
        for key, delivered in batch.items():
            if self._waiting.get(key) == delivered:
                del self._waiting[key]
        self._hook(FencesWaiting(len(self._waiting)))

    def _keep_waiting(self, key: str, entry: Entry, lifetime_ms: int) -> None:
        if self._is_outdated(key, entry):
            return
        self._waiting.pop(key, None)
        self._waiting[key] = (entry, lifetime_ms)
        dropped = 0
        while len(self._waiting) > self._waiting_limit:
            del self._waiting[next(iter(self._waiting))]
            dropped += 1
        self._hook(FencesWaiting(len(self._waiting), dropped))

    def _is_outdated(self, key: str, entry: Entry) -> bool:
        waiting = self._waiting.get(key)
        return waiting is not None and entry.version < waiting[0].version

    def _decode(self, key: str, raw: bytes) -> Entry | None:
        try:
            return decode(raw)
        except CorruptData:
            self._hook(EntryUnreadable(key))
            return None


def _read_script(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
