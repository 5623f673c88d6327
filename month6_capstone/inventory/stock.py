"""Stock: what is on the shelf, what is held for a basket, what is promised for good.

Theory of operation
    Each product has `initial` pieces, always split into three: available, held, reserved.

        available --hold--> held --reserve (paid)--> reserved
            ^                |                          |
            +----expire------+-------release------------+

    A hold covers all lines of a basket or none. It ends at `expires_at` unless the order was paid.
    Facts about the order may come late, twice or in the wrong order; a hold that the order closed
    stays closed for ever (a tombstone), even if the request to open it arrives afterwards.

Invariants (tests cite them; the database holds S1 and S2 as CHECK constraints too)
    S1  available, held, reserved >= 0.
    S2  initial = available + held + reserved.
    S3  A hold's lines are in `held` while it is held, in `reserved` while reserved, else nowhere.
    S4  A closed hold never holds or reserves anything again.

Absent on purpose: SQL, clocks (`now` is given), expiry batches (sweeper.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from scalelab.errors import Conflict, IdempotencyMismatch, InvariantBroken


class HoldState(StrEnum):
    """Where a hold stands."""

    HELD = "held"
    RESERVED = "reserved"
    RELEASED = "released"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Line:
    """quantity pieces (>= 1) of one product; a basket names each product once."""

    product_id: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Level:
    """One product's pieces. S1 and S2 hold in every value that this module returns."""

    product_id: str
    initial: int
    available: int
    held: int = 0
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class Hold:
    """One basket's claim. order_id is set by the first event about its order.

    A hold that is RELEASED and has an order_id was closed by that order (S4). expires_at is None
    once reserved or closed. lines are sorted by product_id.
    """

    hold_id: UUID
    state: HoldState
    lines: tuple[Line, ...]
    expires_at: datetime | None
    order_id: UUID | None = None


class Move(StrEnum):
    """A shift of a basket's pieces between two of the three parts."""

    HOLD = "hold"
    EXPIRE = "expire"
    RESERVE_HELD = "reserve_held"
    RESERVE_FREE = "reserve_free"
    RELEASE_HELD = "release_held"
    RELEASE_RESERVED = "release_reserved"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Shift:
    """What a move adds to each part, per piece."""

    available: int
    held: int
    reserved: int


SHIFTS: Mapping[Move, Shift] = {
    Move.HOLD: Shift(-1, 1, 0),
    Move.EXPIRE: Shift(1, -1, 0),
    Move.RESERVE_HELD: Shift(0, -1, 1),
    Move.RESERVE_FREE: Shift(-1, 0, 1),
    Move.RELEASE_HELD: Shift(1, -1, 0),
    Move.RELEASE_RESERVED: Shift(1, 0, -1),
    Move.NOTHING: Shift(0, 0, 0),
}


class Answer(StrEnum):
    """The event type that tells the order what became of its stock."""

    RESERVED = "inventory.stock.reserved.v1"
    REJECTED = "inventory.stock.rejected.v1"
    RELEASED = "inventory.stock.released.v1"


@dataclass(frozen=True, slots=True)
class Settlement:
    """What one transaction writes: the hold's new state, one move of its lines, the answer."""

    state: HoldState
    move: Move
    answer: Answer
    reason: str | None = None


def shortages(levels: Mapping[str, Level], lines: Sequence[Line]) -> list[str]:
    """Product ids, sorted, that have fewer available pieces than asked (unknown ones too)."""
    return sorted(
        line.product_id
        for line in lines
        if line.product_id not in levels or levels[line.product_id].available < line.quantity
    )


def apply(level: Level, move: Move, quantity: int) -> Level:
    """`level` after moving `quantity` pieces. Raises InvariantBroken if S1 or S2 would break."""
    shift = SHIFTS[move]
    moved = replace(
        level,
        available=level.available + shift.available * quantity,
        held=level.held + shift.held * quantity,
        reserved=level.reserved + shift.reserved * quantity,
    )
    parts = (moved.available, moved.held, moved.reserved)
    if min(parts) < 0 or sum(parts) != moved.initial:
        raise InvariantBroken(f"{move} of {quantity} breaks the stock of {level}")
    return moved


def in_order(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Lines by product_id: the order in which every transaction locks stock rows."""
    return tuple(sorted(lines, key=lambda line: line.product_id))


def reopen(existing: Hold, lines: Sequence[Line]) -> bool:
    """Whether a repeated request to hold must take stock again; False if it still stands.

    True only for a hold that expired and that no order has claimed. Raises Conflict `hold_closed`
    for one that was released (S4), IdempotencyMismatch if the same id names another basket.
    """
    if existing.state is HoldState.RELEASED:
        raise Conflict("this hold was released and cannot be opened again", code="hold_closed")
    if existing.lines != in_order(lines):
        raise IdempotencyMismatch("the hold exists with other lines")
    return existing.state is HoldState.EXPIRED


def let_go(existing: Hold | None) -> Move:
    """What a caller's wish to drop a hold moves; also leaves a tombstone if it was unknown.

    Raises Conflict `hold_reserved`: a paid order's stock is released by the order alone.
    """
    if existing is not None and existing.state is HoldState.RESERVED:
        raise Conflict("the hold belongs to a paid order", code="hold_reserved")
    if existing is not None and existing.state is HoldState.HELD:
        return Move.RELEASE_HELD
    return Move.NOTHING


def on_paid(existing: Hold | None, *, enough_free: bool) -> Settlement:
    """The order is paid: keep its stock for good, or say that it cannot be had.

    `enough_free` says whether every line could be taken from what is available. A hold that ran
    out, or was let go before the order was known, may still be served from free stock; one that
    the order itself closed may not (S4). After a rejection nothing of the basket stays behind.
    """
    if existing is not None and existing.state is HoldState.HELD:
        return Settlement(HoldState.RESERVED, Move.RESERVE_HELD, Answer.RESERVED)
    if existing is not None and existing.state is HoldState.RESERVED:
        return Settlement(HoldState.RESERVED, Move.NOTHING, Answer.RESERVED)
    if existing is not None and is_closed(existing):
        return Settlement(HoldState.RELEASED, Move.NOTHING, Answer.REJECTED, "hold_closed")
    if enough_free:
        return Settlement(HoldState.RESERVED, Move.RESERVE_FREE, Answer.RESERVED)
    return Settlement(HoldState.RELEASED, Move.NOTHING, Answer.REJECTED, "out_of_stock")


def on_order_over(existing: Hold | None) -> Settlement:
    """The order failed or was cancelled: give back what it has, and close its hold for ever."""
    moves = {HoldState.HELD: Move.RELEASE_HELD, HoldState.RESERVED: Move.RELEASE_RESERVED}
    move = Move.NOTHING if existing is None else moves.get(existing.state, Move.NOTHING)
    return Settlement(HoldState.RELEASED, move, Answer.RELEASED)


def is_closed(hold: Hold) -> bool:
    """Whether an order closed this hold (S4), in contrast to a caller who merely let it go."""
    return hold.state is HoldState.RELEASED and hold.order_id is not None
