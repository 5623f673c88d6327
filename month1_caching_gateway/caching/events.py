"""What a cache tells whoever listens. The cache does not know about metrics; see metrics.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class Outcome(Enum):
    """How one key was answered.

    HIT: from the store. NEAR: from this process's own tier. STALE: from the store, past its time.
    EXCLUDED: surely no such key, by the filter. BYPASS: the store was not asked or did not answer.
    """

    HIT = "hit"
    NEAR = "near"
    STALE = "stale"
    EXCLUDED = "excluded"
    MISS = "miss"
    BYPASS = "bypass"


@dataclass(frozen=True, slots=True)
class Looked:
    """A lookup is answered. keys: how many had this outcome."""

    outcome: Outcome
    keys: int


@dataclass(frozen=True, slots=True)
class FillRefused:
    """An old read came to be stored after a newer write: the race happened and was caught."""

    keys: int


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """The store was asked and failed. operation: read | put | replace | fence | take_leases |
    drop_leases. code: of the error."""

    operation: str
    code: str


@dataclass(frozen=True, slots=True)
class FencesWaiting:
    """The number of invalidations that wait for the store to return has changed to `waiting`.
    dropped: given up to keep the number bounded; for those only the lifetime bounds staleness."""

    waiting: int
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class EntryUnreadable:
    """Bytes under one of our keys were no entry, or their payload no value; taken as a miss."""

    key: str


@dataclass(frozen=True, slots=True)
class EntryTooLarge:
    """An entry is over the store's limit for one item; it is not stored, and loaded each time."""

    key: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RefreshFailed:
    """A value was to be loaded anew behind its readers, and the source failed. code: its error."""

    keys: int
    code: str


@dataclass(frozen=True, slots=True)
class HearingChanged:
    """Invalidations of other processes are heard (True), or no more (False): then this process's
    own tier is empty and passed by."""

    hears: bool


@dataclass(frozen=True, slots=True)
class WritesWaiting:
    """The number of accepted writes that are not written has changed to `waiting` keys."""

    waiting: int


@dataclass(frozen=True, slots=True)
class WritesLost:
    """Accepted writes of so many keys are given up. code: of the source's refusal, or `stopped`."""

    keys: int
    code: str


@dataclass(frozen=True, slots=True)
class LeaseWaited:
    """Another process loads these keys; we wait. gave_up: it took too long, we ask as well."""

    keys: int
    gave_up: bool = False


CacheEvent: TypeAlias = (
    Looked
    | FillRefused
    | StoreFailed
    | FencesWaiting
    | EntryUnreadable
    | EntryTooLarge
    | RefreshFailed
    | HearingChanged
    | WritesWaiting
    | WritesLost
    | LeaseWaited
)

Hook: TypeAlias = Callable[[CacheEvent], None]


def ignore(_event: CacheEvent) -> None:
    """The hook of a cache nobody listens to."""
