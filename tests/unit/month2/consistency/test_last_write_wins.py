"""The merge rule: order and repeats do not matter, and something is lost."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from month2_databases.consistency import Cell, merge, settle, silently_lost

CELLS = st.builds(
    Cell,
    value=st.none() | st.binary(max_size=3),
    written_us=st.integers(0, 3),
)


@given(one=CELLS, other=CELLS, third=CELLS)
def test_order_and_repeats_do_not_matter(one: Cell, other: Cell, third: Cell) -> None:
    """I1: commutative, associative, idempotent."""
    assert merge(one, other) == merge(other, one)
    assert merge(merge(one, other), third) == merge(one, merge(other, third))
    assert merge(one, one) == one


@given(cells=st.lists(CELLS, min_size=1), seed=st.randoms(use_true_random=False))
def test_replicas_that_heard_the_same_agree(cells: list[Cell], seed: object) -> None:
    """I1: whatever the order in which two replicas heard it, and with repeats."""
    shuffled = [*cells, *cells]
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    assert reduce(merge, shuffled) == reduce(merge, cells) == settle(cells)


@given(one=CELLS, other=CELLS)
def test_nothing_is_made_up(one: Cell, other: Cell) -> None:
    """I2: the result is one of the two."""
    assert merge(one, other) in (one, other)


def test_a_clock_that_runs_ahead_wins_over_what_was_written_later() -> None:
    """I3: the write of 12:00:00 on a clock five seconds fast beats the write of 12:00:03."""
    ahead = Cell(b"first", 5_000_000)
    later = Cell(b"second", 3_000_000)
    assert merge(ahead, later) == ahead
    assert silently_lost([ahead, later]) == [later]


def test_a_deletion_beats_a_value_of_the_same_instant() -> None:
    """At equal times the tombstone stays, then the larger value."""
    assert merge(Cell(b"x", 7), Cell(None, 7)) == Cell(None, 7)
    assert merge(Cell(b"a", 7), Cell(b"b", 7)) == Cell(b"b", 7)


def test_of_no_writes_nothing_is_left() -> None:
    """A cell that nobody wrote."""
    assert settle([]) is None
