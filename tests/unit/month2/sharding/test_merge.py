"""Merged parts equal the same question asked of all rows together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.sharding import Aggregates, Fold, Ordered, concatenated, top
from scalelab.errors import InvalidInput

Row = tuple[Any, ...]
NUMBERS = st.none() | st.integers(-20, 20)
PARTS = st.lists(st.lists(st.tuples(NUMBERS, st.integers(0, 3)), max_size=12), max_size=5)


def rank(row: Row) -> tuple[bool, int]:
    return (row[0] is None, row[0] or 0)


@given(PARTS, st.none() | st.integers(0, 30), st.booleans())
def test_ordered_parts_make_one_order(
    parts: list[list[Row]], limit: int | None, descending: bool
) -> None:
    """I1 with NULLs, any limit, both ways."""
    by_shard = [sorted(part, key=rank, reverse=descending)[:limit] for part in parts]
    merged = Ordered((0,), limit, descending)(by_shard)
    everything = sorted(concatenated(parts), key=rank, reverse=descending)[:limit]
    assert [row[0] for row in merged] == [row[0] for row in everything]


@given(PARTS)
def test_aggregates_equal_those_of_all_rows(parts: list[list[Row]]) -> None:
    """I2: each shard aggregates its own rows, groups span shards, NULLs do not count."""

    def one_shard(rows: Sequence[Row]) -> list[Row]:
        found: list[Row] = []
        for group in sorted({row[1] for row in rows}):
            values = [row[0] for row in rows if row[1] == group and row[0] is not None]
            total = sum(values) if values else None
            low, high = min(values, default=None), max(values, default=None)
            found.append((group, total, len(values), low, high, total, len(values)))
        return found

    folds = (Fold.SUM, Fold.COUNT, Fold.MIN, Fold.MAX, Fold.AVG)
    merged = Aggregates(folds, groups=1)([one_shard(part) for part in parts])
    whole = one_shard(concatenated(parts))
    expected = [(*row[:5], row[1] / row[2] if row[2] else None) for row in whole]
    assert sorted(merged) == expected


def test_a_mean_of_means_is_not_the_mean() -> None:
    """One shard has nine rows of 1, the other one row of 11: 2, not 6."""
    assert Aggregates((Fold.AVG,))([[(9, 9)], [(11, 1)]]) == [(2.0,)]


def test_an_aggregate_without_groups_is_one_row_even_over_nothing() -> None:
    """As in SQL: a sum of nothing is NULL, a count is 0."""
    folds = (Fold.SUM, Fold.COUNT, Fold.AVG)
    assert Aggregates(folds)([]) == [(None, 0, None)]
    assert Aggregates(folds)([[(None, 0, None, 0)], [(5, 2, 5, 2)]]) == [(5, 2, 2.5)]


def test_the_largest_group_may_be_first_nowhere() -> None:
    """Whole groups first, then the top: `c` is second on both shards and first of all."""
    parts = [[("a", 10), ("c", 9)], [("b", 10), ("c", 9)]]
    groups = Aggregates((Fold.SUM,), groups=1)(parts)
    assert top(groups, 1, by=1) == [("c", 18)]
    assert Ordered((1,), 1, descending=True)(parts) == [("a", 10)]


def test_the_top_leaves_null_for_last() -> None:
    """It is smaller than everything."""
    assert top([("a", None), ("b", -5)], 2, by=1) == [("b", -5), ("a", None)]


def test_rows_out_of_order_are_refused() -> None:
    """I3: a shard that sorts by another collation must not give a wrong answer."""
    with pytest.raises(InvalidInput) as refusal:
        Ordered((0,))([[("a",), ("B",)], [("c",)]])
    assert refusal.value.stable_code == "rows_out_of_order"


def test_rows_of_another_shape_are_refused() -> None:
    """An average needs two columns."""
    with pytest.raises(InvalidInput) as refusal:
        Aggregates((Fold.AVG,))([[(5,)]])
    assert refusal.value.stable_code == "rows_of_other_shape"
