"""What changed at which revision, for watchers: each of them is a cursor into it.

A slow watcher costs nothing: it holds a number, and reads when it can. What compaction takes away
before it came is told to it as an error.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import NamedTuple

from month5_kvstore.store.values import Event, EventKind, Interval, KeyValue, Version


class Change(NamedTuple):
    """One version of one key."""

    key: bytes
    version: Version

    def event(self) -> Event:
        """As told to watchers."""
        before = self.version.previous
        there = before is not None and before.version > 0
        previous = before.item(self.key) if before is not None and there else None
        if self.version.version:
            return Event(EventKind.PUT, self.version.item(self.key), previous)
        gone = KeyValue(self.key, b"", 0, self.version.revision, 0, 0)
        return Event(EventKind.DELETE, gone, previous)


class Journal:
    """Changes by revision, without gap. Revisions up to `floor` are not here any more."""

    __slots__ = ("_changes", "floor")

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self._changes: deque[tuple[Change, ...]] = deque()

    @property
    def newest(self) -> int:
        """The last revision written here."""
        return self.floor + len(self._changes)

    def append(self, changes: tuple[Change, ...]) -> None:
        """The changes of the next revision, in order."""
        self._changes.append(changes)

    def forget(self, revision: int) -> list[Change]:
        """Drop all up to `revision`; returns what was dropped, in order."""
        dropped: list[Change] = []
        while self.floor < revision and self._changes:
            dropped.extend(self._changes.popleft())
            self.floor += 1
        return dropped

    def read(
        self, first: int, interval: Interval, *, revisions_max: int
    ) -> tuple[tuple[Event, ...], int]:
        """Events of an interval from revision `first` (above the floor) on, and where to go on.

        Revisions are never split; at most `revisions_max` are looked through.
        """
        start = first - self.floor - 1
        found: list[Event] = []
        following = first
        for changes in islice(self._changes, start, start + revisions_max):
            following += 1
            found += [change.event() for change in changes if change.key in interval]
        return tuple(found), following
