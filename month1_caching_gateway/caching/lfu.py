"""Least frequently used: when full, forget what was asked for the fewest times.

Theory of operation
    Keys with the same number of uses share a bucket, ordered by when they came into it. A use
    moves a key one bucket up; room is made in the lowest bucket, oldest first. All O(1), without a
    heap. A scan over keys that are asked once stays in the bottom bucket and pushes out only
    itself.

    Counts would make yesterday's favourites immortal. So after `halve_every` uses all counts are
    halved (rounded down, never below 1): a pass over the items, O(1) per use on average.

Invariants (tests cite them)
    I1  Never more than max_entries, never more than max_bytes.
    I2  The one with the fewest uses goes first; among equals the one that came there first.
    I3  A newcomer is never its own victim, so the cache keeps learning.

Sources: Shah, Mitra and Matani 2010, "An O(1) algorithm for implementing the LFU cache eviction
scheme" (buckets); Einziger, Friedman and Manes 2017, "TinyLFU" (the halving). Differs in: exact
counts of what is held, no sketch of what is not.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from month1_caching_gateway.caching.lru import check_limits

V = TypeVar("V")


class Lfu(Generic[V]):
    """At most `max_entries` items of together at most `max_bytes` (None: no such limit).

    halve_every: uses between two halvings; None means ten for each entry there is room for.
    """

    __slots__ = (
        "_buckets",
        "_counts",
        "_halve_every",
        "_items",
        "_max_bytes",
        "_max_entries",
        "_sizes",
        "_uses",
        "evicted",
        "size_bytes",
    )

    def __init__(
        self, max_entries: int, max_bytes: int | None = None, *, halve_every: int | None = None
    ) -> None:
        check_limits(max_entries, max_bytes)
        self._items: dict[str, V] = {}
        self._sizes: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        self._buckets: dict[int, OrderedDict[str, None]] = {}
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._halve_every = halve_every or 10 * max_entries
        self._uses = 0
        self.size_bytes = 0
        """What the items weigh together."""
        self.evicted = 0
        """Items forgotten to make room, since the start."""

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: str) -> V | None:
        """The item, used once more; None if there is none. O(1) on average."""
        item = self._items.get(key)
        if item is not None:
            self._move(key, self._counts[key] + 1)
            self._uses += 1
            if self._uses >= self._halve_every:
                self._halve()
        return item

    def peek(self, key: str) -> V | None:
        """The item, without counting as a use."""
        return self._items.get(key)

    def put(self, key: str, item: V, size_bytes: int) -> bool:
        """Keep the item and make room; False if it is larger than everything may be together.

        A key that is there already keeps its count.
        """
        count = self._counts.get(key, 0) + 1
        self.remove(key)
        if self._max_bytes is not None and size_bytes > self._max_bytes:
            return False
        while self._is_full_for(size_bytes):
            self._evict()
        self._items[key] = item
        self._sizes[key] = size_bytes
        self.size_bytes += size_bytes
        self._move(key, count)
        return True

    def remove(self, key: str) -> None:
        """Forget the item and its count, if it is there. O(1)."""
        if self._items.pop(key, None) is not None:
            self.size_bytes -= self._sizes.pop(key)
            self._leave(key, self._counts.pop(key))

    def clear(self) -> None:
        """Forget everything."""
        for kept in (self._items, self._sizes, self._counts, self._buckets):
            kept.clear()
        self.size_bytes = 0

    def _is_full_for(self, size_bytes: int) -> bool:
        if len(self._items) >= self._max_entries:
            return True
        return self._max_bytes is not None and self.size_bytes + size_bytes > self._max_bytes

    def _evict(self) -> None:
        lowest = self._buckets[min(self._buckets)]  # few distinct counts: halving bounds them
        self.remove(next(iter(lowest)))
        self.evicted += 1

    def _move(self, key: str, count: int) -> None:
        before = self._counts.get(key)
        if before is not None:
            self._leave(key, before)
        self._counts[key] = count
        self._buckets.setdefault(count, OrderedDict())[key] = None

    def _leave(self, key: str, count: int) -> None:
        bucket = self._buckets[count]
        del bucket[key]
        if not bucket:
            del self._buckets[count]

    def _halve(self) -> None:
        self._uses = 0
        ranked = [key for count in sorted(self._buckets) for key in self._buckets[count]]
        self._buckets.clear()
        for key in ranked:
            self._counts[key] = max(1, self._counts[key] // 2)
            self._buckets.setdefault(self._counts[key], OrderedDict())[key] = None
