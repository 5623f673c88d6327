"""Cache-aside: look in the cache, go to the source on a miss, fence after a write.

Theory of operation
    read    store → hit, or load (one flight per key in this process) → fill the store.
            With a LeasePolicy one flight per key over all processes: leases.py.
    write   the caller commits to the source, then calls `bust(key, version)`, which fences the
            store and lets nobody join a load that began before. Versions make the order of
            arrival irrelevant; entries.py has the race and the rule.
    store gone   every lookup is a bypass: still one flight per key, nothing is filled.

Guarantees
    G1  A lookup fails only if the source fails (or is overloaded), never because of the store.
    G2  After `bust(key, v)` returned True, lookups that begin later, in any process, never get
        an answer below v from the store; in this process not from a load under way either.
    G3  After it returned False the same holds in this process, and elsewhere after ttl_s.

The source is a function from keys to rows with versions; a key it leaves out does not exist.
Absent on purpose, to come: a tier in the process, early refresh, serving stale on errors.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Generic, TypeVar

from month1_caching_gateway.caching.entries import Entry, Kind, Policy, lifetime_ms
from month1_caching_gateway.caching.events import EntryUnreadable, Hook, Looked, Outcome, ignore
from month1_caching_gateway.caching.leases import LeasedLoad, LeasePolicy
from month1_caching_gateway.caching.redis_store import RedisStore
from month1_caching_gateway.caching.single_flight import SingleFlight
from scalelab.errors import CorruptData

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Versioned(Generic[T]):
    """A row of the source. version: 1..2**53-1, raised by every change of the row."""

    value: T
    version: int


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """value: None if the source has no such key. outcome: where the answer came from."""

    value: T | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """How a value becomes bytes and back. decode raises CorruptData for bytes it cannot read."""

    encode: Callable[[T], bytes]
    decode: Callable[[bytes], T]


Source = Callable[[Sequence[str]], Awaitable[Mapping[str, Versioned[T]]]]


class CacheAside(Generic[T]):
    """A cache in front of one kind of row; an async context manager that owns its loads.

    random: spreads lifetimes and polls. leases: None means every process may load a key.
    The store's Redis client belongs to the caller.
    """

    def __init__(
        self,
        source: Source[T],
        store: RedisStore,
        codec: Codec[T],
        *,
        policy: Policy,
        random: Random,
        leases: LeasePolicy | None = None,
        hook: Hook = ignore,
    ) -> None:
        self._source = source
        self._store = store
        self._codec = codec
        self._policy = policy
        self._random = random
        self._hook = hook
        self._flights: SingleFlight[T | None] = self._make_flights(leases)

    async def __aenter__(self) -> CacheAside[T]:
        await self._flights.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._flights.__aexit__(kind, error, trace)

    async def get(self, key: str) -> Answer[T]:
        """The answer for one key; see get_many."""
        return (await self.get_many([key]))[key]

    async def get_many(self, keys: Sequence[str]) -> dict[str, Answer[T]]:
        """An answer for every key, with one command to the store and at most one new load.

        Raises what the source raises; Unavailable code `load_timeout`; Overloaded.
        """
        wanted = list(dict.fromkeys(keys))
        if not wanted:
            return {}
        found = await self._store.read(wanted)
        answers = self._served(found or {})
        missing = [key for key in wanted if key not in answers]
        outcome = Outcome.BYPASS if found is None else Outcome.MISS
        self._tell(Outcome.HIT, len(answers))
        self._tell(outcome, len(missing))
        if missing:
            loaded = await self._flights.get(missing)
            answers.update((key, Answer(value, outcome)) for key, value in loaded.items())
        return answers

    async def bust(self, key: str, version: int) -> bool:
        """Announce a committed write that made `version`. Call it after the commit, always.

        Whether the store has it (G2, G3). Never raises because of the store.
        """
        self._flights.forget(key)
        lifetime = lifetime_ms(self._policy, Kind.FENCE, 0.0)
        return await self._store.fence(key, version, lifetime)

    def _served(self, found: Mapping[str, Entry]) -> dict[str, Answer[T]]:
        """The answers that stand in the store: values and absences, not fences."""
        answers: dict[str, Answer[T]] = {}
        for key, entry in found.items():
            if entry.kind is Kind.ABSENT:
                answers[key] = Answer(None, Outcome.HIT)
            elif entry.kind is Kind.VALUE:
                try:
                    answers[key] = Answer(self._codec.decode(entry.payload), Outcome.HIT)
                except CorruptData:
                    self._hook(EntryUnreadable(key))
        return answers

    def _make_flights(self, leases: LeasePolicy | None) -> SingleFlight[T | None]:
        if leases is None:
            return SingleFlight(self._load, timeout_s=self._policy.load_timeout_s)
        leased: LeasedLoad[T | None] = LeasedLoad(
            self._store,
            leases,
            fill=self._load,
            served=self._values,
            load_timeout_s=self._policy.load_timeout_s,
            random=self._random,
            hook=self._hook,
        )
        return SingleFlight(leased.load, timeout_s=leased.timeout_s)

    def _values(self, found: Mapping[str, Entry]) -> dict[str, T | None]:
        return {key: answer.value for key, answer in self._served(found).items()}

    async def _load(self, keys: Sequence[str]) -> dict[str, T | None]:
        """Ask the source and fill the store; one flight. The deadline covers both, so a load
        that outran it fills nothing."""
        rows = await self._source(keys)
        await self._store.put({key: self._entry(rows.get(key)) for key in keys})
        return {key: rows[key].value if key in rows else None for key in keys}

    def _entry(self, row: Versioned[T] | None) -> tuple[Entry, int]:
        if row is None:
            entry = Entry(Kind.ABSENT, 0)
        else:
            entry = Entry(Kind.VALUE, row.version, self._codec.encode(row.value))
        return entry, lifetime_ms(self._policy, entry.kind, self._random.random())

    def _tell(self, outcome: Outcome, keys: int) -> None:
        if keys:
            self._hook(Looked(outcome, keys))
