"""A tier in the process, in front of the store: values as objects, found without waiting.

Theory of operation
    An object that stands here is not compared with the store. Three things bound its age:
      ttl_s     the longest it stands, always;
      bust      a write of this process removes it at once; one of another process does when its
                announcement arrives (invalidation.py);
      trust     announcements can stop without a sign: a cable, a frozen Redis, this very process
                stopped for a minute. So nothing is served from here later than `trusted_until_s`,
                which moves only while the listener proves that it still hears.

    The race: a reader reads version 1 from the store or the source; version 2 is announced and
    finds nothing to remove; the reader puts version 1. So a reading is opened before anything is
    read and closed with the result. An announcement marks the readings under way, and a marked
    result below the announced version is used once and not kept.

Invariants (tests cite them)
    I1  After a bust of (key, v) nothing below v is served from here, whatever reading was under
        way. A bust without a version removes whatever stands.
    I2  Nothing is served later than trusted_until_s, and nothing that was read while not trusted
        is ever kept.
    I3  A standing value is not replaced by one of a lower version.

Values are shared by all callers: they must not be changed. Source: Redis' documentation on
client-side caching (the race of two connections); differs in: versions let a newer result through.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from month1_caching_gateway.caching.entries import VERSION_LIMIT
from scalelab.clock import Clock
from scalelab.errors import InvalidInput

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Slot(Generic[V]):
    """What stands: the answer as it is given, its version, and its last instant."""

    answer: V
    version: int
    until_s: float


class Shelf(Protocol[V]):
    """Where slots stand and which goes first: Lru or Lfu."""

    def __len__(self) -> int: ...
    def get(self, key: str) -> Slot[V] | None: ...
    def peek(self, key: str) -> Slot[V] | None: ...
    def put(self, key: str, item: Slot[V], size_bytes: int) -> bool: ...
    def remove(self, key: str) -> None: ...
    def clear(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """A look at the store or the source that is under way. began: the tier's count of busts then;
    below 0 if its result may not be kept."""

    keys: Sequence[str]
    began: int


class ProcessTier(Generic[V]):
    """Answers by key. ttl_s: the longest one stands, > 0.

    is_told: a listener will tell of other processes' writes; nothing is served before it does.
    Without one (Memcached, say) only ttl_s bounds how long another's write stays unseen.
    """

    def __init__(self, shelf: Shelf[V], *, ttl_s: float, clock: Clock, is_told: bool) -> None:
        if ttl_s <= 0:
            raise InvalidInput(f"a tier's ttl_s of {ttl_s} is not above 0", field="ttl_s")
        self._shelf = shelf
        self._ttl_s = ttl_s
        self._now_s = clock.monotonic_s
        self._trusted_until_s = -math.inf if is_told else math.inf
        self._count = 0
        self._lost_at = 0
        self._open: dict[str, int] = {}
        self._marked: dict[str, tuple[int, int]] = {}  # key → when (count), lowest version allowed

    def __len__(self) -> int:
        return len(self._shelf)

    @property
    def is_trusted(self) -> bool:
        """Whether anything is served from here now."""
        return self._now_s() < self._trusted_until_s

    def get(self, key: str) -> V | None:
        """The answer, if one stands and may be used. Never waits. O(1)."""
        slot = self._shelf.get(key)
        if slot is None:
            return None
        now_s = self._now_s()
        if now_s < slot.until_s:
            return slot.answer if now_s < self._trusted_until_s else None
        self._shelf.remove(key)
        return None

    def open(self, keys: Sequence[str]) -> Reading:
        """Begin a reading, before the store or the source is asked. Close it, always."""
        for key in keys:
            self._open[key] = self._open.get(key, 0) + 1
        return Reading(keys, self._count if self.is_trusted else -1)

    def keep(self, reading: Reading, key: str, slot: Slot[V], size_bytes: int) -> bool:
        """Let a result of the reading stand, at most ttl_s; whether it does (I1 to I3)."""
        if reading.began < self._lost_at or not self.is_trusted:
            return False
        marked_at, lowest = self._marked.get(key, (0, 0))
        if marked_at > reading.began and slot.version < lowest:
            return False
        standing = self._shelf.peek(key)
        if standing is not None and standing.version > slot.version:
            return False
        until_s = min(slot.until_s, self._now_s() + self._ttl_s)
        return self._shelf.put(key, Slot(slot.answer, slot.version, until_s), size_bytes)

    def close(self, reading: Reading) -> None:
        """End a reading."""
        for key in reading.keys:
            left = self._open[key] - 1
            if left:
                self._open[key] = left
            else:
                del self._open[key]
                self._marked.pop(key, None)

    def bust(self, key: str, version: int | None) -> None:
        """A write made `version` of `key`; None: it changed, nobody says to what (I1)."""
        lowest = VERSION_LIMIT if version is None else version
        standing = self._shelf.peek(key)
        if standing is not None and standing.version < lowest:
            self._shelf.remove(key)
        if key in self._open:
            self._count += 1
            _, before = self._marked.get(key, (0, 0))
            self._marked[key] = (self._count, max(before, lowest))

    def heard(self, trusted_until_s: float) -> None:
        """The listener has proof: until that instant of the monotonic clock this may be used."""
        self._trusted_until_s = max(self._trusted_until_s, trusted_until_s)

    def lost(self) -> None:
        """Announcements may have been missed: forget everything, and keep no reading under way."""
        self._shelf.clear()
        self._count += 1
        self._lost_at = self._count
        self._trusted_until_s = -math.inf
