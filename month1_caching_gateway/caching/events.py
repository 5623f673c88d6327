"""What a cache tells whoever listens. The cache does not know about metrics; see metrics.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class Outcome(Enum):
    """How one key was answered. BYPASS: the store was not asked or did not answer."""

    HIT = "hit"
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
    """The store was asked and failed. operation: read | put | fence | take_leases | drop_leases.
    code: of the error."""

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
class LeaseWaited:
    """Another process loads these keys; we wait. gave_up: it took too long, we ask as well."""

    keys: int
    gave_up: bool = False


CacheEvent: TypeAlias = (
    Looked | FillRefused | StoreFailed | FencesWaiting | EntryUnreadable | LeaseWaited
)

Hook: TypeAlias = Callable[[CacheEvent], None]


def ignore(_event: CacheEvent) -> None:
    """The hook of a cache nobody listens to."""
