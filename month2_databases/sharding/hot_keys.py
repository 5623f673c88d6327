"""Which keys are hot, in memory that does not grow with their number. Pure.

Theory of operation
    `SpaceSaving` keeps `capacity` counters. A key that has one is counted; a new key takes over
    the smallest counter and begins at its value, which it remembers as its possible error. A key
    with more than total / capacity occurrences cannot lose its counter. It answers "which?".

    `CountMinSketch` adds every key to one cell in each of `depth` rows; the smallest of its cells
    is its estimate: never too low, too high only by what other keys put there. It answers "how
    often this one?", for any key, and two sketches of one shape add up: one a process, summed.

Invariants (tests cite them)
    I1  SpaceSaving: count - error <= true count <= count, for every key it holds.
    I2  SpaceSaving: every key that occurred more than total / capacity times is held.
    I3  CountMinSketch: estimate >= true count; with width w the excess is over 2 * total / w for
        at most a share 2**-depth of the keys.
    I4  CountMinSketch: the sum of two sketches is the sketch of both streams.

Sources: Metwally, Agrawal and El Abbadi 2005, "Efficient computation of frequent and top-k
elements in data streams"; Cormode and Muthukrishnan 2005, "An improved data stream summary".
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import xxhash

from scalelab.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class HotKey:
    """count: occurrences, too high by at most `error`."""

    key: str
    count: int
    error: int

    @property
    def at_least(self) -> int:
        """Occurrences that are certain."""
        return self.count - self.error


class SpaceSaving:
    """The frequent keys of a stream. capacity: counters, >= 1. Begin anew for each window."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise InvalidInput(f"capacity {capacity} is below 1", field="capacity")
        self._capacity = capacity
        self._counts: dict[str, int] = {}
        self._errors: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        """Every held key once; its count there may be old, and is then too low."""
        self.total = 0

    def add(self, key: str) -> None:
        """Count one occurrence. Cost: a dict update; O(log capacity) when a key takes over."""
        self.total += 1
        count = self._counts.get(key)
        if count is not None:
            self._counts[key] = count + 1
            return
        error = self._let_go() if len(self._counts) >= self._capacity else 0
        self._counts[key] = error + 1
        self._errors[key] = error
        heapq.heappush(self._heap, (error + 1, key))

    def hottest(self, *, share: float = 0.0) -> list[HotKey]:
        """The held keys with surely at least `share` (0..1) of all occurrences, hottest first."""
        found = [HotKey(key, n, self._errors[key]) for key, n in self._counts.items()]
        floor = share * self.total
        return sorted((k for k in found if k.at_least >= floor), key=lambda k: (-k.count, k.key))

    def _let_go(self) -> int:
        """Drop the smallest counter; returns its value. Old entries of the heap are put right."""
        while True:
            count, key = self._heap[0]
            now = self._counts[key]
            if now == count:
                heapq.heappop(self._heap)
                del self._counts[key], self._errors[key]
                return count
            heapq.heapreplace(self._heap, (now, key))


class CountMinSketch:
    """Estimates of how often keys occurred. width, depth: cells a row, rows."""

    def __init__(self, width: int = 2048, depth: int = 4) -> None:
        if width < 1 or depth < 1:
            raise InvalidInput("a sketch has at least one cell", field="width")
        self._width = width
        self._rows = [[0] * width for _ in range(depth)]
        self.total = 0

    def add(self, key: str, count: int = 1) -> None:
        """Count `count` occurrences. Cost: one hash a row."""
        self.total += count
        for row, cell in zip(self._rows, self._cells(key), strict=True):
            row[cell] += count

    def estimate(self, key: str) -> int:
        """Occurrences of `key`, never too low (I3)."""
        cells = self._cells(key)
        return min(row[cell] for row, cell in zip(self._rows, cells, strict=True))

    def plus(self, other: CountMinSketch) -> CountMinSketch:
        """Both streams together (I4). Raises InvalidInput code `other_shape`."""
        if (self._width, len(self._rows)) != (other._width, len(other._rows)):
            raise InvalidInput("sketches of two shapes do not add up", code="other_shape")
        both = CountMinSketch(self._width, len(self._rows))
        both._rows = [
            [a + b for a, b in zip(mine, its, strict=True)]
            for mine, its in zip(self._rows, other._rows, strict=True)
        ]
        both.total = self.total + other.total
        return both

    def _cells(self, key: str) -> list[int]:
        data = key.encode()
        return [
            xxhash.xxh3_64_intdigest(data, seed) % self._width for seed in range(len(self._rows))
        ]
