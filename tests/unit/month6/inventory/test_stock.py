"""Stock decisions as values, against a model, for every order of deliveries."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month6_capstone.inventory.stock import (
    Answer,
    Hold,
    HoldState,
    Level,
    Line,
    Move,
    Settlement,
    apply,
    let_go,
    on_order_over,
    on_paid,
    reopen,
    shortages,
)
from scalelab.errors import Conflict, IdempotencyMismatch, InvariantBroken

HOLD, ORDER = UUID(int=1), UUID(int=2)
SOON = datetime(2026, 1, 1, tzinfo=UTC)
LINES = (Line("p-1", 2),)


def hold(state: HoldState, order_id: UUID | None = None) -> Hold:
    return Hold(HOLD, state, LINES, SOON if state is HoldState.HELD else None, order_id)


@given(st.lists(st.tuples(st.sampled_from(list(Move)), st.integers(1, 5)), max_size=40))
def test_no_move_makes_or_loses_pieces(moves: list[tuple[Move, int]]) -> None:
    """S1, S2 over any sequence: a move either conserves the pieces or is refused whole."""
    level = Level("p-1", 10, 10)
    for move, quantity in moves:
        try:
            level = apply(level, move, quantity)
        except InvariantBroken:
            continue
        assert min(level.available, level.held, level.reserved) >= 0
        assert level.available + level.held + level.reserved == level.initial


class World:
    """One product with two pieces, one hold of two, and the facts that reach it."""

    def __init__(self, *, others: int) -> None:
        self.level = Level("p-1", 4, 4 - others, 0, others)
        self.hold: Hold | None = None

    def move(self, move: Move) -> None:
        self.level = apply(self.level, move, 2)

    def open(self) -> None:
        if self.hold is None:
            if not shortages({"p-1": self.level}, LINES):
                self.move(Move.HOLD)
                self.hold = hold(HoldState.HELD)
            return
        try:
            again = reopen(self.hold, LINES)
        except (Conflict, IdempotencyMismatch):
            return
        if again and not shortages({"p-1": self.level}, LINES):
            self.move(Move.HOLD)
            self.hold = replace(self.hold, state=HoldState.HELD)

    def expire(self) -> None:
        if self.hold is not None and self.hold.state is HoldState.HELD:
            self.move(Move.EXPIRE)
            self.hold = replace(self.hold, state=HoldState.EXPIRED)

    def drop(self) -> None:
        try:
            self.move(let_go(self.hold))
        except Conflict:
            return
        self.hold = replace(self.hold or hold(HoldState.RELEASED), state=HoldState.RELEASED)

    def paid(self) -> None:
        free = not shortages({"p-1": self.level}, LINES)
        self._settle(on_paid(self.hold, enough_free=free))

    def over(self) -> None:
        self._settle(on_order_over(self.hold))

    def _settle(self, settlement: Settlement) -> None:
        self.move(settlement.move)
        base = self.hold or hold(HoldState.RELEASED)
        self.hold = replace(base, state=settlement.state, order_id=ORDER)


@pytest.mark.parametrize("facts", sorted(permutations(["open", "expire", "drop", "paid", "over"])))
@pytest.mark.parametrize("others", [0, 3])
def test_a_closed_order_holds_nothing_in_any_order_of_facts(
    facts: tuple[str, ...], others: int
) -> None:
    """S3, S4: whatever the order, with free stock or without, `over` is the last word."""
    world = World(others=others)
    for fact in facts:
        getattr(world, fact)()
        assert world.level.held == (2 if world.hold and world.hold.state is HoldState.HELD else 0)
        promised = 2 if world.hold and world.hold.state is HoldState.RESERVED else 0
        assert world.level.reserved == others + promised
    assert world.level == Level("p-1", 4, 4 - others, 0, others)


@pytest.mark.parametrize(
    ("existing", "enough_free", "answer", "move"),
    [
        (hold(HoldState.HELD), False, Answer.RESERVED, Move.RESERVE_HELD),
        (hold(HoldState.RESERVED, ORDER), False, Answer.RESERVED, Move.NOTHING),
        (hold(HoldState.EXPIRED), True, Answer.RESERVED, Move.RESERVE_FREE),
        (hold(HoldState.EXPIRED), False, Answer.REJECTED, Move.NOTHING),
        (hold(HoldState.RELEASED), True, Answer.RESERVED, Move.RESERVE_FREE),
        (hold(HoldState.RELEASED, ORDER), True, Answer.REJECTED, Move.NOTHING),
        (None, True, Answer.RESERVED, Move.RESERVE_FREE),
        (None, False, Answer.REJECTED, Move.NOTHING),
    ],
)
def test_a_paid_order_gets_its_stock_where_it_can(
    existing: Hold | None, enough_free: bool, answer: Answer, move: Move
) -> None:
    """Held first, then free stock, never behind a tombstone of the order itself."""
    settlement = on_paid(existing, enough_free=enough_free)
    assert (settlement.answer, settlement.move) == (answer, move)
    assert (settlement.state is HoldState.RESERVED) == (answer is Answer.RESERVED)


def test_a_hold_names_one_basket() -> None:
    """The same id with other lines is refused; the order of lines does not matter."""
    existing = Hold(HOLD, HoldState.HELD, (Line("a", 1), Line("b", 2)), SOON)
    assert not reopen(existing, [Line("b", 2), Line("a", 1)])
    with pytest.raises(IdempotencyMismatch):
        reopen(existing, [Line("a", 1)])


def test_a_paid_orders_stock_cannot_be_dropped() -> None:
    """Only its order releases it."""
    with pytest.raises(Conflict) as refusal:
        let_go(hold(HoldState.RESERVED, ORDER))
    assert refusal.value.stable_code == "hold_reserved"
