"""Cache-aside: look in the cache, go to the source on a miss, fence after a write.

Theory of operation
    read    filter → this process's tier → store → hit, or load (one flight per key in this
            process) → fill the store. With a LeasePolicy one flight per key over all processes.
            The filter, the tier and the leases are there only if given.
    write   the caller commits to the source, then calls `bust(key, version)`, which fences the
            store and lets nobody join a load that began before. Versions make the order of
            arrival irrelevant; entries.py has the race and the rule.
    store gone   every lookup is a bypass: still one flight per key, nothing is filled.

Guarantees
    G1  A lookup fails only if the source fails (or is overloaded), never because of the store.
    G2  After `bust(key, v)` returned True, lookups that begin later, in any process, never get
        an answer below v from the store; in this process not from a load under way or its tier
        either. Another process's tier is bounded by T1 of invalidation.py.
    G3  After it returned False the same holds in this process, and elsewhere after ttl_s.
    G4  If the policy has stale times, a failing source does not fail a lookup whose value ended
        less than stale_if_error_s ago; a value that a write outdated is not served at all.

The source is a function from keys to rows with versions; a key it leaves out does not exist.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from types import TracebackType
from typing import Generic, TypeVar

from month1_caching_gateway.caching.answers import Answer, Codec, Versioned
from month1_caching_gateway.caching.entries import Entry, Kind, Policy, lifetime_ms
from month1_caching_gateway.caching.events import Hook, Looked, Outcome, ignore
from month1_caching_gateway.caching.found import EntrySorter, Found
from month1_caching_gateway.caching.freshness import value_entry
from month1_caching_gateway.caching.known_keys import KnownKeys
from month1_caching_gateway.caching.leases import LeasedLoad, LeasePolicy
from month1_caching_gateway.caching.process_tier import ProcessTier, Reading, Slot
from month1_caching_gateway.caching.refresh import Refreshes
from month1_caching_gateway.caching.remote_store import RemoteStore
from month1_caching_gateway.caching.single_flight import SingleFlight
from scalelab.errors import Retryable

T = TypeVar("T")

Source = Callable[[Sequence[str]], Awaitable[Mapping[str, Versioned[T]]]]

_NEAR = Looked(Outcome.NEAR, 1)


class CacheAside(Generic[T]):
    """A cache in front of one kind of row; an async context manager that owns its loads.

    random: spreads lifetimes and polls. leases: None means every process may load a key. near: a
    tier in this process; its listener is the caller's. known: a filter in front of absent keys.
    The store belongs to the caller.
    """

    def __init__(
        self,
        source: Source[T],
        store: RemoteStore,
        codec: Codec[T],
        *,
        policy: Policy,
        random: Random,
        leases: LeasePolicy | None = None,
        near: ProcessTier[Answer[T]] | None = None,
        known: KnownKeys | None = None,
        hook: Hook = ignore,
    ) -> None:
        self._source = source
        self._store = store
        self._codec = codec
        self._policy = policy
        self._random = random
        self._near = near
        self._known = known
        self._hook = hook
        self._clock = store.clock
        self._sorter = EntrySorter(codec, policy, clock=self._clock, random=random, hook=hook)
        if leases is None:
            load, refresh, timeout_s = self._load, self._load, policy.load_timeout_s
        else:
            leased: LeasedLoad[T | None] = LeasedLoad(
                store,
                leases,
                fill=self._load,
                served=lambda found: self._sorter.sort(found).fresh_values(),
                load_timeout_s=policy.load_timeout_s,
                random=random,
                hook=hook,
            )
            load, refresh, timeout_s = leased.load, leased.refresh, leased.timeout_s
        self._flights: SingleFlight[T | None] = SingleFlight(load, timeout_s=timeout_s)
        self._refreshes = Refreshes(refresh, timeout_s=policy.load_timeout_s, hook=hook)

    async def __aenter__(self) -> CacheAside[T]:
        await self._flights.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._refreshes.aclose()
        await self._flights.__aexit__(kind, error, trace)

    def get_now(self, key: str) -> Answer[T] | None:
        """The answer if it stands in this process's tier; None means ask `get`. Never waits."""
        answer = None if self._near is None else self._near.get(key)
        if answer is not None:
            self._hook(_NEAR)
        return answer

    async def get(self, key: str) -> Answer[T]:
        """The answer for one key; see get_many."""
        return self.get_now(key) or (await self._look([key]))[key]

    async def get_many(self, keys: Sequence[str]) -> dict[str, Answer[T]]:
        """An answer for every key, in the order asked, with one command to the store and at most
        one new load.

        Raises what the source raises; Unavailable code `load_timeout`; Overloaded.
        """
        wanted = list(dict.fromkeys(keys))
        answers = {key: answer for key in wanted if (answer := self.get_now(key)) is not None}
        rest = [key for key in wanted if key not in answers]
        if rest:
            answers.update(await self._look(rest))
        return {key: answers[key] for key in wanted}

    async def bust(self, key: str, version: int) -> bool:
        """Announce a committed write that made `version`. Call it after the commit, always.

        Whether the store has it (G2, G3). Never raises because of the store.
        """
        self._outdate(key, version)
        has_it = await self._store.fence(key, version, self._fence_ms)
        self._outdate(key, version)  # a look that began between the two may have kept the old
        return has_it

    async def replace(self, key: str, row: Versioned[T]) -> bool:
        """As `bust`, with the row that was committed left in the store for the next reader."""
        return await self.replace_many({key: row})

    async def replace_many(self, rows: Mapping[str, Versioned[T]]) -> bool:
        """The same for many rows, in one command."""
        entries = {key: self._entry(row, 0.0) for key, row in rows.items()}
        for key, row in rows.items():
            self._outdate(key, row.version)
        has_them = await self._store.replace(entries, fence_ms=self._fence_ms)
        for key, row in rows.items():
            self._outdate(key, row.version)
        return has_them

    @property
    def _fence_ms(self) -> int:
        return lifetime_ms(self._policy, Kind.FENCE, 0.0)

    def _outdate(self, key: str, version: int) -> None:
        self._flights.forget(key)
        if self._known is not None:
            self._known.add(key)
        if self._near is not None:
            self._near.bust(key, version)

    async def _look(self, keys: list[str]) -> dict[str, Answer[T]]:
        """Answers from the store, and for what it has not from the source."""
        excluded: list[str] = []
        if self._known is not None:
            excluded = [key for key in keys if self._known.excludes(key)]
            self._tell(Outcome.EXCLUDED, len(excluded))
            keys = [key for key in keys if key not in excluded]
        answers: dict[str, Answer[T]] = {key: Answer(None, Outcome.EXCLUDED) for key in excluded}
        if not keys:
            return answers
        found = await self._read(keys)
        outcome = Outcome.MISS
        if found is None:
            found, outcome = Found[T](), Outcome.BYPASS
        answers.update(found.answers)
        stale = sum(answer.outcome is Outcome.STALE for answer in found.answers.values())
        self._tell(Outcome.STALE, stale)
        self._tell(Outcome.HIT, len(found.answers) - stale)
        if found.refresh:
            self._refreshes.start(found.refresh)
        missing = [key for key in keys if key not in found.answers]
        if missing:
            answers.update(await self._miss(missing, outcome, found.fallback))
        return answers

    async def _miss(
        self, keys: list[str], outcome: Outcome, fallback: Mapping[str, Answer[T]]
    ) -> dict[str, Answer[T]]:
        self._tell(outcome, len(keys))
        try:
            loaded = await self._flights.get(keys)
        except Retryable:
            if any(key not in fallback for key in keys):
                raise
            self._tell(Outcome.STALE, len(keys))
            return {key: fallback[key] for key in keys}
        return {key: Answer(value, outcome) for key, value in loaded.items()}

    async def _read(self, keys: list[str]) -> Found[T] | None:
        """What stands in the store, kept near as well; None: it cannot say."""
        if self._near is None:
            entries = await self._store.read(keys)
            return None if entries is None else self._sorter.sort(entries)
        reading = self._near.open(keys)
        try:
            entries = await self._store.read(keys)
            if entries is None:
                return None
            found = self._sorter.sort(entries)
            for key, value in found.fresh_values().items():
                self._keep(reading, key, value, entries[key])
            return found
        finally:
            self._near.close(reading)

    async def _load(self, keys: Sequence[str]) -> dict[str, T | None]:
        """Ask the source and fill the store; one flight. The deadline covers both, so a load
        that outran it fills nothing."""
        reading = None if self._near is None else self._near.open(keys)
        try:
            began_s = self._clock.monotonic_s()
            rows = await self._source(keys)
            load_ms = (self._clock.monotonic_s() - began_s) * 1000
            entries = {key: self._entry(rows.get(key), load_ms) for key in keys}
            values = {key: rows[key].value if key in rows else None for key in keys}
            stored = await self._store.put(entries)
            if reading is not None:
                for key in stored or ():  # what the store refused is older than a write
                    self._keep(reading, key, values[key], entries[key][0])
            return values
        finally:
            if self._near is not None and reading is not None:
                self._near.close(reading)

    def _keep(self, reading: Reading, key: str, value: T | None, entry: Entry) -> None:
        """Let an answer stand near, no longer than it is fresh."""
        if self._near is None:
            return
        now_s, until_s = self._clock.monotonic_s(), math.inf
        if entry.kind is Kind.ABSENT:
            until_s = now_s + self._policy.negative_ttl_s
        elif entry.fresh_until_ms:
            until_s = now_s + entry.fresh_until_ms / 1000 - self._clock.now().timestamp()
        slot = Slot(Answer(value, Outcome.NEAR), entry.version, until_s)
        self._near.keep(reading, key, slot, len(key) + len(entry.payload))

    def _entry(self, row: Versioned[T] | None, load_ms: float) -> tuple[Entry, int]:
        draw = self._random.random()
        if row is None:
            return Entry(Kind.ABSENT, 0), lifetime_ms(self._policy, Kind.ABSENT, draw)
        now_ms = self._clock.now().timestamp() * 1000
        return value_entry(
            self._policy,
            row.version,
            self._codec.encode(row.value),
            now_ms=now_ms,
            load_ms=load_ms,
            draw=draw,
        )

    def _tell(self, outcome: Outcome, keys: int) -> None:
        if keys:
            self._hook(Looked(outcome, keys))
