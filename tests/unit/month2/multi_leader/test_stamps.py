"""Merges that do not care about order, and what they lose."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from month2_databases.multi_leader import (
    Cell,
    Row,
    Stamp,
    Tally,
    by_column,
    compare,
    last_write,
    merged,
    stamp,
    value,
)

stamps = st.builds(Stamp, st.integers(0, 5), st.sampled_from(["east", "west", "north"]))


def of_stamp(at: Stamp) -> str:
    """One write has one stamp: equal stamps mean equal values."""
    return f"{at.at_us}/{at.node}"


lww_rows = stamps.map(lambda at: Row((of_stamp(at),), at.at_us % 2 == 0, at))
cells = stamps.map(lambda at: Cell(of_stamp(at), at))
column_rows = st.dictionaries(st.sampled_from(["title", "price"]), cells)
tallies = st.builds(Tally, st.integers(0, 9), st.integers(0, 9))
counters = st.dictionaries(st.sampled_from(["east", "west", "north"]), tallies)


@given(a=lww_rows, b=lww_rows, c=lww_rows)
def test_last_write_wins_in_any_order(a: Row, b: Row, c: Row) -> None:
    """I1, I2 for rows."""
    assert last_write(a, b) == last_write(b, a)
    assert last_write(last_write(a, b), c) == last_write(a, last_write(b, c))
    assert last_write(a, a) == a
    assert last_write(a, b) in (a, b)


@given(a=column_rows, b=column_rows, c=column_rows)
def test_columns_merge_in_any_order(
    a: dict[str, Cell], b: dict[str, Cell], c: dict[str, Cell]
) -> None:
    """I1, I2 for columns."""
    assert by_column(a, b) == by_column(b, a)
    assert by_column(by_column(a, b), c) == by_column(a, by_column(b, c))
    assert by_column(a, a) == a
    assert all(cell in (a.get(name), b.get(name)) for name, cell in by_column(a, b).items())


@given(a=counters, b=counters, c=counters)
def test_counters_merge_in_any_order(
    a: dict[str, Tally], b: dict[str, Tally], c: dict[str, Tally]
) -> None:
    """I1 for counters."""
    assert merged(a, b) == merged(b, a)
    assert merged(merged(a, b), c) == merged(a, merged(b, c))
    assert merged(a, a) == a


@given(steps=st.lists(st.tuples(st.sampled_from(["east", "west"]), st.integers(-5, 5))))
def test_a_counter_of_separate_writers_is_the_sum_of_all_their_steps(
    steps: list[tuple[str, int]],
) -> None:
    """No step is lost and none counts twice, however often the copies meet."""
    copies: dict[str, dict[str, Tally]] = {"east": {}, "west": {}}
    for node, amount in steps:
        mine = copies[node].get(node, Tally())
        tally = Tally(mine.added + max(amount, 0), mine.taken + max(-amount, 0))
        copies[node] = {**copies[node], node: tally}
        copies["west"] = merged(copies["west"], copies["east"])
    assert value(merged(copies["east"], copies["west"])) == sum(amount for _, amount in steps)


@given(wall_us=st.integers(-10, 10), after=stamps)
def test_a_stamp_is_later_than_what_it_overwrites_whatever_the_clock_says(
    wall_us: int, after: Stamp
) -> None:
    """I3: also with a clock that stepped back, and for a node that loses ties."""
    assert stamp(wall_us, "aaa", after=after) > after


def test_a_difference_names_every_key_once() -> None:
    """By side, or as unequal."""
    found = compare({"a": (1,), "b": (1,), "c": (1,)}, {"b": (2,), "c": (1,), "d": (1,)})
    assert (found.only_left, found.only_right, found.unequal) == (("a",), ("d",), ("b",))
    assert not found.is_none
    assert compare({"a": (1,)}, {"a": (1,)}).is_none
