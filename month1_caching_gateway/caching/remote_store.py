"""Entries in a server that may be gone at any time: what Redis and Memcached have in common.

No method raises because of the server: a failed read or put is told to the hook and answered with
None, and the caller goes to the source. When half of the last second's commands failed, a breaker
stops asking, so that requests do not pay the time-out one after the other; then one caller tries,
and until it has an answer all others go to the source as before.

Reads of one turn of the event loop are one command: thirty callers cost little more than one.

A fence that could not be delivered waits here, at most `waiting_limit` keys, and is delivered
before anything else is asked once the server is back. Until then this process does not believe
what the server says about that key. If the process dies first, or the limit is passed, only the
entry's lifetime bounds the staleness.

A kind of server adds the five commands at the end; each may raise what `scalelab.errors` has.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from month1_caching_gateway.caching.entries import Entry, Kind, decode
from month1_caching_gateway.caching.events import (
    EntryTooLarge,
    EntryUnreadable,
    FencesWaiting,
    FillRefused,
    Hook,
    StoreFailed,
)
from scalelab.clients.tick_batches import TickBatches
from scalelab.clock import Clock
from scalelab.errors import CorruptData, ScalelabError
from scalelab.resilience.circuit_breaker import Breaker, BreakerPolicy, answer, ask
from scalelab.resilience.circuit_breaker import Outcome as Verdict

T = TypeVar("T")

BREAKER = BreakerPolicy(failure_ratio=0.5, min_calls=1, window_s=1.0, open_s=1.0, probes=1)
"""In quiet traffic one failure opens it: a second without a cache costs little there. In busy
traffic it takes half of the last second's commands."""

Lifetimes: TypeAlias = Mapping[str, tuple[Entry, int]]
"""Key → entry and its lifetime in ms, >= 1."""


class RemoteStore(ABC):
    """Entries of one namespace. See RedisStore and MemcachedStore for the arguments."""

    def __init__(
        self,
        *,
        clock: Clock,
        hook: Hook,
        breaker: BreakerPolicy,
        parallel: int,
        waiting_limit: int,
        entry_limit_bytes: int,
    ) -> None:
        self._hook = hook
        self._clock = clock
        self._breaker_policy = breaker
        self._breaker = Breaker()
        self._places = asyncio.Semaphore(parallel)
        self._reads: TickBatches[Sequence[str], dict[str, Entry] | None] = TickBatches(
            self._read_batch, what="the cache's store", max_batches=parallel, max_pending=2**20
        )
        self._entry_limit_bytes = entry_limit_bytes
        self._waiting: dict[str, tuple[Entry, int]] = {}
        self._waiting_limit = waiting_limit
        self._is_delivering = False

    @property
    def clock(self) -> Clock:
        """The clock of whoever made the store; its caches use the same."""
        return self._clock

    async def read(self, keys: Sequence[str]) -> dict[str, Entry] | None:
        """What stands under these keys, fences included; None: the server cannot say."""
        return await self._reads.answer(keys)

    async def put(self, entries: Lifetimes) -> set[str] | None:
        """Store entries where no newer one stands; the keys that were stored. None: nobody knows.

        An entry over the server's limit is told to the hook and left out.
        """
        fit = {key: pair for key, pair in entries.items() if self._fits(key, pair[0])}
        current = {key: pair for key, pair in fit.items() if not self._is_outdated(key, pair[0])}
        stored = await self._ask("put", lambda: self._put(current, announce=False))
        if stored is not None and len(stored) < len(fit):
            self._hook(FillRefused(len(fit) - len(stored)))
        return stored

    async def fence(self, key: str, version: int, lifetime_ms: int) -> bool:
        """Let nothing below `version` stand or be stored under `key`, and announce the write.

        True: the server has it. False: it waits here and is delivered when the server is back.
        """
        fence = {key: (Entry(Kind.FENCE, version), lifetime_ms)}
        stored = await self._ask("fence", lambda: self._put(fence, announce=True))
        if stored is None:
            self._keep_waiting(key, *fence[key])
        return stored is not None

    async def replace(self, entries: Lifetimes, *, fence_ms: int) -> bool:
        """Store what a writer has just committed, and announce it. As `fence`, with values in.

        A fence, for `fence_ms`, goes in the place of what is too large. If the server is away,
        fences wait here.
        """
        fences = {
            key: (Entry(Kind.FENCE, pair[0].version), fence_ms) for key, pair in entries.items()
        }
        fitting = {
            key: pair if self._fits(key, pair[0]) else fences[key] for key, pair in entries.items()
        }
        stored = await self._ask("replace", lambda: self._put(fitting, announce=True))
        if stored is None:
            for key, fence in fences.items():
                self._keep_waiting(key, *fence)
        return stored is not None

    async def take_leases(self, keys: Sequence[str], token: str, ttl_ms: int) -> set[str] | None:
        """The keys whose lease is now `token`'s, for `ttl_ms`; None: the server cannot say."""
        return await self._ask("take_leases", lambda: self._take(keys, token, ttl_ms))

    async def drop_leases(self, keys: Sequence[str], token: str) -> None:
        """Give back what is still `token`'s. If the server is away the leases lapse."""
        await self._ask("drop_leases", lambda: self._drop(keys, token))

    async def _read_batch(
        self, questions: Sequence[Sequence[str]]
    ) -> list[dict[str, Entry] | None]:
        keys = list(dict.fromkeys(key for question in questions for key in question))
        found = await self._ask("read", lambda: self._fetch(keys))
        if found is None:
            return [None] * len(questions)
        entries: dict[str, Entry] = {}
        for key, raw in found.items():
            entry = self._decode(key, raw)
            if entry is not None and not self._is_outdated(key, entry):
                entries[key] = entry
        return [{key: entries[key] for key in asked if key in entries} for asked in questions]

    async def _ask(self, operation: str, command: Callable[[], Awaitable[T]]) -> T | None:
        async with self._places:  # first the place: who waited sees what the breaker learnt
            now_s = self._clock.monotonic_s()
            self._breaker, admission = ask(self._breaker, self._breaker_policy, now_s=now_s)
            if not admission.admitted:
                return None
            verdict = Verdict.NEUTRAL  # stands if we are cancelled: that says nothing of the server
            try:
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

    async def _deliver_waiting(self) -> None:
        if not self._waiting or self._is_delivering:
            return
        self._is_delivering = True
        try:
            batch = dict(self._waiting)
            await self._put(batch, announce=True)
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

    def _fits(self, key: str, entry: Entry) -> bool:
        if len(entry.payload) <= self._entry_limit_bytes:
            return True
        self._hook(EntryTooLarge(key, len(entry.payload)))
        return False

    def _decode(self, key: str, raw: bytes) -> Entry | None:
        try:
            return decode(raw)
        except CorruptData:
            self._hook(EntryUnreadable(key))
            return None

    @abstractmethod
    async def _fetch(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The bytes under those of the distinct keys that have any."""

    @abstractmethod
    async def _put(self, entries: Lifetimes, *, announce: bool) -> set[str]:
        """Store each entry where `may_replace` allows it; the keys stored.

        announce: these are writes; processes that listen must hear of every key.
        """

    @abstractmethod
    async def _take(self, keys: Sequence[str], token: str, ttl_ms: int) -> set[str]:
        """Set the leases that nobody holds; the keys of those."""

    @abstractmethod
    async def _drop(self, keys: Sequence[str], token: str) -> None:
        """Remove the leases that are `token`'s, in one step with the comparison."""
