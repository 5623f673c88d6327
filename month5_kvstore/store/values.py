"""What the store holds and tells: keys with their versions, intervals of keys, events.

Keys and values are bytes. A revision is a number of the whole store, 1 for an empty one, and goes
up by one with each command that changes something; `sub` orders the changes within one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple


class KeyValue(NamedTuple):
    """A key as of some revision. version: changes since it was created, 1 for the first.
    created, modified: revisions. lease: 0 for none."""

    key: bytes
    value: bytes
    created: int
    modified: int
    version: int
    lease: int


class EventKind(IntEnum):
    """What happened to a key."""

    PUT = 1
    DELETE = 2


class Event(NamedTuple):
    """One change. item: what was put, or for a delete the key with an empty value and its
    revision. previous: what was there before, unless compacted away."""

    kind: EventKind
    item: KeyValue
    previous: KeyValue | None


@dataclass(slots=True)
class Version:
    """One change of one key, and the one before it. Shared with snapshots: never altered.

    version 0: the key was deleted here.
    """

    revision: int
    sub: int
    created: int
    version: int
    value: bytes
    lease: int
    previous: Version | None

    def item(self, key: bytes) -> KeyValue:
        """As told to callers."""
        return KeyValue(key, self.value, self.created, self.revision, self.version, self.lease)

    def at(self, revision: int) -> Version | None:
        """The version that was in force at `revision`. Cost: one step a later version."""
        version: Version | None = self
        while version is not None and version.revision > revision:
            version = version.previous
        return version


@dataclass(frozen=True, slots=True)
class Interval:
    """start alone (end None), start <= key < end, or everything from start on (end empty)."""

    start: bytes
    end: bytes | None = None

    @classmethod
    def prefix(cls, prefix: bytes) -> Interval:
        """All keys that begin with `prefix`; all keys if it is empty."""
        stem = prefix.rstrip(b"\xff")
        if not stem:
            return cls(prefix, b"")
        return cls(prefix, stem[:-1] + bytes([stem[-1] + 1]))

    def __contains__(self, key: bytes) -> bool:
        if self.end is None:
            return key == self.start
        return key >= self.start and (not self.end or key < self.end)
