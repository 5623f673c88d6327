"""Range placement: split points cut the keys into neighbouring ranges, each with a shard.

Keys near each other stay together, so a scan of a range asks few shards; keys that come in order
(dates, sequences) all meet the last range, which is the price. A range that grew too large is
split, two that shrank are merged.

Invariants (tests cite them)
    I1  Every key has exactly one shard: range i holds points[i-1] <= key < points[i].
    I2  A split moves no key but those from the point up to the end of its range.
    I3  A merge moves no key but those of the upper range; split, then merge gives all keys back.

Text is compared by code point, as PostgreSQL does it under COLLATE "C" in UTF-8.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar, cast

from month2_databases.sharding.placement import text_key, whole_key
from scalelab.errors import Conflict, InvalidInput, NotFound

KeyT = TypeVar("KeyT", str, int)


@dataclass(frozen=True, slots=True)
class RangePlacement(Generic[KeyT]):
    """points: split points, rising, all of `kind`. owners: a shard a range, one more than points.

    kind: `str` or `int`, the type of the keys; it must be said, as one range has no point.
    """

    kind: type[KeyT]
    points: tuple[KeyT, ...]
    owners: tuple[str, ...]
    version: int = 1

    def __post_init__(self) -> None:
        if len(self.owners) != len(self.points) + 1:
            raise _refused(f"{len(self.points)} points cut {len(self.points) + 1} ranges")
        for point in self.points:
            self._checked(point)
        if any(low >= high for low, high in pairwise(cast("Sequence[str]", self.points))):
            raise _refused("split points must rise")

    @property
    def shards(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.owners))

    def shard_of(self, key: object) -> str:
        return self.owners[bisect_right(self.points, self._checked(key))]

    def shards_between(self, low: KeyT, high: KeyT) -> tuple[str, ...]:
        """The shards that may have a key in low <= key < high, in the order of their keys."""
        first = bisect_right(self.points, self._checked(low))
        last = bisect_left(self.points, self._checked(high))
        return tuple(dict.fromkeys(self.owners[first : last + 1]))

    def split(self, at: KeyT, to: str) -> RangePlacement[KeyT]:
        """The next version: keys from `at` to the end of its range go to `to` (I2).

        Raises Conflict code `split_point_taken` if a range begins there already.
        """
        place = bisect_left(self.points, self._checked(at))
        if place < len(self.points) and self.points[place] == at:
            raise Conflict(f"a range begins at {at!r} already", code="split_point_taken")
        points = (*self.points[:place], at, *self.points[place:])
        owners = (*self.owners[: place + 1], to, *self.owners[place + 1 :])
        return RangePlacement(self.kind, points, owners, self.version + 1)

    def merge(self, at: KeyT) -> RangePlacement[KeyT]:
        """The next version: the range that begins at `at` goes to its lower neighbour (I3).

        Raises NotFound if no range begins there.
        """
        if self._checked(at) not in self.points:
            raise NotFound(f"no range begins at {at!r}", code="split_point_unknown")
        place = self.points.index(at)
        points = self.points[:place] + self.points[place + 1 :]
        owners = self.owners[: place + 1] + self.owners[place + 2 :]
        return RangePlacement(self.kind, points, owners, self.version + 1)

    def _checked(self, key: object) -> KeyT:
        return cast("KeyT", text_key(key) if self.kind is str else whole_key(key))


def _refused(message: str) -> InvalidInput:
    return InvalidInput(message, field="points", code="bad_ranges")
