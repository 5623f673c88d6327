"""What goes into a cache and what comes out: rows with versions, answers, and their bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from month1_caching_gateway.caching.events import Outcome

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
