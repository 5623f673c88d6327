"""Splitting a hot key: written over n sub-keys that live on different shards, read merged. Pure.

One key is on one shard, however many shards there are; a key that everybody writes is therefore
as fast as one server. Written as `key`, `key~1`, ..., its sub-keys hash to places of their own.
Every read then asks all of them and puts the parts together: right for counters, sets and logs,
wrong for what must be seen whole while it changes (a balance that may not go below zero).

Invariants (tests cite them)
    I1  The first sub-key is the key itself: what was written before the split is still read.
    I2  A key that is not split has itself as its only sub-key.
    I3  After more ways are given, every sub-key of before is still one.

Ways grow, and shrink only after somebody has merged the parts; so the table only says how many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scalelab.errors import InvalidInput

_SEPARATOR = "~"


@dataclass(frozen=True, slots=True)
class SplitKeys:
    """ways: how many sub-keys a split key has. A snapshot; changes make a new one."""

    ways: Mapping[str, int] = field(default_factory=dict[str, int])

    def split(self, key: str, ways: int) -> SplitKeys:
        """With `key` over that many sub-keys, 2 or more. Raises InvalidInput for fewer than now."""
        if _SEPARATOR in key:
            raise InvalidInput(f"a key with {_SEPARATOR!r} cannot be split", field="key")
        if ways < max(2, self.ways.get(key, 1)):
            raise InvalidInput(f"{ways} ways are fewer than before, or than 2", field="ways")
        return SplitKeys({**self.ways, key: ways})

    def writes_to(self, key: str, draw: int) -> str:
        """The sub-key for one write. draw: any number >= 0, random or counted; spreads evenly."""
        return _sub_key(key, draw % self.ways.get(key, 1))

    def reads_from(self, key: str) -> tuple[str, ...]:
        """All sub-keys of `key`, itself first (I1)."""
        return tuple(_sub_key(key, number) for number in range(self.ways.get(key, 1)))


def _sub_key(key: str, number: int) -> str:
    return f"{key}{_SEPARATOR}{number}" if number else key
