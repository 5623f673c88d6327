"""A sorted map of keys that can be frozen in no time: chunks, copied only when written to.

Theory of operation
    Keys lie in chunks of at most 512, in order. Freezing copies the list of chunks, not the
    chunks, and begins a new epoch; a chunk of an older epoch is copied before its first change.
    So a snapshot costs one pointer a chunk, and what is written meanwhile one copy a chunk.

Invariants (tests cite them)
    K1  Keys are sorted, each there once; no chunk is empty or over its size.
    K2  What was frozen never changes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from month5_kvstore.store.values import Interval, Version

CHUNK_KEYS = 512


class Chunk:
    """Some keys in order with their newest versions. epoch: in which it may be changed."""

    __slots__ = ("epoch", "keys", "tips")

    def __init__(self, epoch: int, keys: list[bytes], tips: list[Version]) -> None:
        self.epoch = epoch
        self.keys = keys
        self.tips = tips


class KeyMap:
    """Key to newest version, sorted by key."""

    __slots__ = ("_chunks", "_epoch", "_firsts", "count")

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []
        self._firsts: list[bytes] = []
        self._epoch = 0
        self.count = 0

    def get(self, key: bytes) -> Version | None:
        """The newest version, a tombstone perhaps. Cost: two binary searches."""
        if not self._chunks:
            return None
        chunk = self._chunks[max(0, bisect_right(self._firsts, key) - 1)]
        at = bisect_left(chunk.keys, key)
        if at < len(chunk.keys) and chunk.keys[at] == key:
            return chunk.tips[at]
        return None

    def set(self, key: bytes, tip: Version) -> None:
        """Put a newest version in place."""
        if not self._chunks:
            self._chunks.append(Chunk(self._epoch, [key], [tip]))
            self._firsts.append(key)
            self.count = 1
            return
        which = max(0, bisect_right(self._firsts, key) - 1)
        chunk = self._own(which)
        at = bisect_left(chunk.keys, key)
        if at < len(chunk.keys) and chunk.keys[at] == key:
            chunk.tips[at] = tip
            return
        chunk.keys.insert(at, key)
        chunk.tips.insert(at, tip)
        self._firsts[which] = chunk.keys[0]
        self.count += 1
        if len(chunk.keys) > CHUNK_KEYS:
            self._split(which)

    def remove(self, key: bytes) -> None:
        """Forget a key that is there, with all its versions."""
        which = bisect_right(self._firsts, key) - 1
        chunk = self._own(which)
        at = bisect_left(chunk.keys, key)
        del chunk.keys[at], chunk.tips[at]
        self.count -= 1
        if chunk.keys:
            self._firsts[which] = chunk.keys[0]
        else:
            del self._chunks[which], self._firsts[which]

    def range(self, interval: Interval) -> Iterator[tuple[bytes, Version]]:
        """Keys of an interval in order. The map must not be changed meanwhile."""
        if interval.end is None:
            tip = self.get(interval.start)
            if tip is not None:
                yield interval.start, tip
            return
        which = max(0, bisect_right(self._firsts, interval.start) - 1)
        for chunk in self._chunks[which:]:
            first = bisect_left(chunk.keys, interval.start)
            last = bisect_left(chunk.keys, interval.end) if interval.end else len(chunk.keys)
            yield from zip(chunk.keys[first:last], chunk.tips[first:last], strict=True)
            if last < len(chunk.keys):
                return

    def freeze(self) -> tuple[Chunk, ...]:
        """All chunks as they are now; they stay so (K2). Cost: one pointer a chunk."""
        self._epoch += 1
        return tuple(self._chunks)

    def _own(self, which: int) -> Chunk:
        chunk = self._chunks[which]
        if chunk.epoch != self._epoch:
            chunk = Chunk(self._epoch, list(chunk.keys), list(chunk.tips))
            self._chunks[which] = chunk
        return chunk

    def _split(self, which: int) -> None:
        chunk = self._chunks[which]
        # A chunk that keys are appended to stays nearly full, so that sorted loads pack well.
        last = which == len(self._chunks) - 1
        half = len(chunk.keys) - 1 if last else len(chunk.keys) // 2
        right = Chunk(self._epoch, chunk.keys[half:], chunk.tips[half:])
        del chunk.keys[half:], chunk.tips[half:]
        self._chunks.insert(which + 1, right)
        self._firsts.insert(which + 1, right.keys[0])
