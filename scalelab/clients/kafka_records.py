"""Values of the Kafka adapter; no library in sight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Partition = tuple[str, int]
"""A topic and the number of one of its partitions."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record as consumed. value None is a tombstone. timestamp_ms: Unix time, by the producer."""

    topic: str
    partition: int
    offset: int
    key: str | None
    value: bytes | None
    headers: dict[str, str]
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Message:
    """A record to produce; equal keys keep their order."""

    topic: str
    key: str | None
    value: bytes | None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Position:
    """Where an acknowledged record stands."""

    topic: str
    partition: int
    offset: int
