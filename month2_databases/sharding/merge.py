"""Merging what several shards answered: in order, with a limit, or as aggregates. Pure.

Theory of operation
    Every shard answers its part of the question; what is asked of it must make the parts
    mergeable. Ordered rows merge if every shard orders and limits alike: the first k of the whole
    are among the first k of each. SUM, COUNT, MIN and MAX of parts merge by themselves. An average
    does not: the mean of two means is not the mean of all, so shards send sum and count. The k
    largest groups do not either: a group that is fifth on each shard may be first of all, so
    groups come whole, and only then the largest are taken (`top`); unless the group is the shard
    key, when each group is on one shard and `Ordered` with a limit is right and cheaper.

Invariants (tests cite them)
    I1  Ordered rows equal the sorted concatenation, cut at the limit.
    I2  Aggregates equal those over all rows together (float sums up to their rounding).
    I3  Rows that come out of order are refused, never merged into a wrong answer.

NULL sorts as in PostgreSQL: last when rising, first when falling. Order text COLLATE "C".
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Any

from scalelab.errors import InvalidInput

Row = tuple[Any, ...]
Merge = Callable[[Sequence[Sequence[Row]]], list[Row]]
"""From each shard's rows to the rows of all."""


def concatenated(parts: Sequence[Sequence[Row]]) -> list[Row]:
    """One after the other, in the order of the shards."""
    return list(chain.from_iterable(parts))


@dataclass(frozen=True, slots=True)
class Ordered:
    """Merge by the columns `by` (places in the row), rising or `descending`; at most `limit`."""

    by: tuple[int, ...]
    limit: int | None = None
    descending: bool = False

    def __call__(self, parts: Sequence[Sequence[Row]]) -> list[Row]:
        """Raises InvalidInput code `rows_out_of_order` (I3). Cost: O(rows log shards)."""
        checked = [self.checked(part) for part in parts]
        merged = heapq.merge(*checked, key=self.rank, reverse=self.descending)
        if self.limit is None:
            return list(merged)
        return [row for row, _ in zip(merged, range(self.limit), strict=False)]

    def rank(self, row: Row) -> tuple[tuple[bool, Any], ...]:
        """What rows are compared by."""
        return tuple((row[at] is None, 0 if row[at] is None else row[at]) for at in self.by)

    def checked(self, part: Iterable[Row]) -> Iterator[Row]:
        """The same rows; refuses the first that is not in order."""
        last = None
        for row in part:
            rank = self.rank(row)
            if last is not None and (last < rank if self.descending else rank < last):
                raise InvalidInput(
                    "a shard's rows are not in the order of the merge: the statement needs the "
                    'same ORDER BY, for text with COLLATE "C"',
                    code="rows_out_of_order",
                )
            last = rank
            yield row


class Fold(StrEnum):
    """How one column of the parts becomes one of the whole. AVG reads two: a sum and a count."""

    SUM = "sum"
    COUNT = "count"
    MIN = "min"
    MAX = "max"
    AVG = "avg"


@dataclass(frozen=True, slots=True)
class Aggregates:
    """Merge rows of `groups` grouping columns followed by the columns of `folds`, in order.

    Groups come out in the order in which they were first met; without any group (groups=0) there
    is exactly one row, as for an aggregate without GROUP BY.
    """

    folds: tuple[Fold, ...]
    groups: int = 0

    def __call__(self, parts: Sequence[Sequence[Row]]) -> list[Row]:
        """Raises InvalidInput code `rows_of_other_shape` for rows with more or fewer columns."""
        width = self.groups + len(self.folds) + self.folds.count(Fold.AVG)
        found: dict[Row, list[list[Any]]] = {}
        if not self.groups:
            found[()] = [[] for _ in range(width)]
        for row in chain.from_iterable(parts):
            if len(row) != width:
                raise InvalidInput(
                    f"a row has {len(row)} columns, not {width}", code="rows_of_other_shape"
                )
            columns = found.setdefault(row[: self.groups], [[] for _ in range(width - self.groups)])
            for column, value in zip(columns, row[self.groups :], strict=True):
                if value is not None:
                    column.append(value)
        return [(*group, *self._folded(columns)) for group, columns in found.items()]

    def _folded(self, columns: Sequence[Sequence[Any]]) -> Iterator[Any]:
        at = 0
        for fold in self.folds:
            values = columns[at]
            at += 1
            match fold:
                case Fold.SUM:
                    yield sum(values) if values else None
                case Fold.COUNT:
                    yield sum(values)
                case Fold.MIN:
                    yield min(values, default=None)
                case Fold.MAX:
                    yield max(values, default=None)
                case Fold.AVG:
                    count = sum(columns[at])
                    at += 1
                    yield sum(values) / count if count else None


def top(rows: Iterable[Row], count: int, *, by: int) -> list[Row]:
    """The `count` rows with the largest column `by`, largest first. NULL is smaller than all.

    Of whole groups only (see above): give it the result of `Aggregates`.
    """
    return heapq.nlargest(
        count, rows, key=lambda row: (row[by] is not None, 0 if row[by] is None else row[by])
    )
