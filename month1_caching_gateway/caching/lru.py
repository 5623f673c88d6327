"""Least recently used: when full, forget what nobody has asked for the longest.

Theory of operation
    An ordered mapping whose order is the order of use: a look moves a key to the end, room is made
    at the front. Both are O(1). Good where what was asked just now is asked again soon; a scan
    over many keys that are asked once pushes out everything that was worth keeping (see lfu.py).

Invariants (tests cite them)
    I1  Never more than max_entries, never more than max_bytes.
    I2  The least recently looked at or put goes first.

The bytes are what the caller says an item weighs. Absent on purpose: expiry (process_tier.py) and
threads; one event loop uses it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from scalelab.errors import InvalidInput

V = TypeVar("V")


class Lru(Generic[V]):
    """At most `max_entries` items of together at most `max_bytes` (None: no such limit)."""

    __slots__ = ("_items", "_max_bytes", "_max_entries", "_sizes", "evicted", "size_bytes")

    def __init__(self, max_entries: int, max_bytes: int | None = None) -> None:
        check_limits(max_entries, max_bytes)
        self._items: OrderedDict[str, V] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self.size_bytes = 0
        """What the items weigh together."""
        self.evicted = 0
        """Items forgotten to make room, since the start."""

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: str) -> V | None:
        """The item, which is now the most recently used; None if there is none. O(1)."""
        item = self._items.get(key)
        if item is not None:
            self._items.move_to_end(key)
        return item

    def peek(self, key: str) -> V | None:
        """The item, without counting as a use."""
        return self._items.get(key)

    def put(self, key: str, item: V, size_bytes: int) -> bool:
        """Keep the item and make room; False if it is larger than everything may be together."""
        self.remove(key)
        if self._max_bytes is not None and size_bytes > self._max_bytes:
            return False
        self._items[key] = item
        self._sizes[key] = size_bytes
        self.size_bytes += size_bytes
        while self._is_over():
            self.remove(next(iter(self._items)))
            self.evicted += 1
        return True

    def remove(self, key: str) -> None:
        """Forget the item, if it is there. O(1)."""
        if self._items.pop(key, None) is not None:
            self.size_bytes -= self._sizes.pop(key)

    def clear(self) -> None:
        """Forget everything."""
        self._items.clear()
        self._sizes.clear()
        self.size_bytes = 0

    def _is_over(self) -> bool:
        over_bytes = self._max_bytes is not None and self.size_bytes > self._max_bytes
        return over_bytes or len(self._items) > self._max_entries


def check_limits(max_entries: int, max_bytes: int | None) -> None:
    """Raise InvalidInput unless there is room for one item."""
    if max_entries < 1:
        raise InvalidInput(f"room for {max_entries} entries is no cache", field="max_entries")
    if max_bytes is not None and max_bytes < 1:
        raise InvalidInput(f"room for {max_bytes} bytes is no cache", field="max_bytes")
