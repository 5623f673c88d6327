"""The order saga: which facts move an order, to where, and what it then says.

Theory of operation
    The saga learns *facts*: payment captured or failed, stock reserved or rejected, money
    refunded, time ran out. It keeps the set of facts it knows. A new fact is added to the set, and
    transitions are then taken from the table below for as long as one applies. A fact that is
    known already changes nothing. A fact that came too early waits in the set until the order has
    reached the state in which it counts. So duplicates, any order of delivery and late replies
    need no code of their own.

                         CAPTURED            RESERVED
        pending ----------------> paid ----------------> stock_reserved --> confirmed (end)
           | PAYMENT_FAILED        | REJECTED, REFUNDED
           |                       v               REFUNDED
           |  TIMED_OUT ------> cancelled --------------------> refunded (end)
           v                       ^  (end if nothing was captured)
        payment_failed (end) ------+
                        CAPTURED after all

    The pivot is `paid`: before it time can run out; after it the saga only waits, because the
    inventory's answer decides and always comes. Entering `cancelled` asks payments to give back
    whatever it captured, now or later (payments keeps the tombstone), so a capture that arrives
    after the cancellation only means that a refund is still owed.

Invariants (tests cite them)
    I1  A status is entered at most once, so each event is emitted at most once.
    I2  `confirmed` needs CAPTURED and RESERVED, and is never entered together with `cancelled`.
    I3  If CAPTURED is known, the order is confirmed, or `cancelled` was emitted.
    I4  The saga has ended exactly when nothing more is owed: confirmed; refunded; payment_failed;
        or cancelled with payments' word that nothing was captured.
    I5  Known facts never shrink, and a fact that is already known changes nothing.

Source: Garcia-Molina and Salem 1987, "Sagas"; differs in: facts are a set, not a log, and
compensation is asked for once and carried out by its owner.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Status(StrEnum):
    """What a customer sees. The values are the wire and column form."""

    PENDING = "pending"
    PAID = "paid"
    STOCK_RESERVED = "stock_reserved"
    CONFIRMED = "confirmed"
    PAYMENT_FAILED = "payment_failed"
    CANCELLED = "cancelled"
    REFUNDED = "refunded"


class Fact(StrEnum):
    """What the saga can learn. The values are stored."""

    CAPTURED = "captured"
    PAYMENT_FAILED = "payment_failed"
    RESERVED = "reserved"
    REJECTED = "rejected"
    REFUNDED = "refunded"
    TIMED_OUT = "timed_out"


ANNOUNCED = frozenset(
    {
        Status.PAID,
        Status.PAYMENT_FAILED,
        Status.CANCELLED,
        Status.CONFIRMED,
        Status.REFUNDED,
    }
)
"""Statuses whose entering is published as `orders.order.<status>.v1`."""


@dataclass(frozen=True, slots=True)
class OrderSaga:
    """Where an order stands and all it was told."""

    status: Status = Status.PENDING
    facts: frozenset[Fact] = field(default_factory=lambda: frozenset[Fact]())


@dataclass(frozen=True, slots=True)
class Advance:
    """The saga after a fact, and the statuses it entered, in order; empty if nothing moved."""

    saga: OrderSaga
    entered: tuple[Status, ...]


# Per status, the facts that move it and where to, most urgent first. None: moves at once.
_MOVES: dict[Status, tuple[tuple[Fact | None, Status], ...]] = {
    Status.PENDING: (
        (Fact.PAYMENT_FAILED, Status.PAYMENT_FAILED),
        (Fact.TIMED_OUT, Status.CANCELLED),
        (Fact.CAPTURED, Status.PAID),
    ),
    Status.PAID: (
        (Fact.REFUNDED, Status.CANCELLED),
        (Fact.REJECTED, Status.CANCELLED),
        (Fact.RESERVED, Status.STOCK_RESERVED),
    ),
    Status.STOCK_RESERVED: ((None, Status.CONFIRMED),),
    Status.PAYMENT_FAILED: ((Fact.CAPTURED, Status.CANCELLED),),
    Status.CANCELLED: ((Fact.REFUNDED, Status.REFUNDED),),
    Status.CONFIRMED: (),
    Status.REFUNDED: (),
}


def learn(saga: OrderSaga, fact: Fact) -> Advance:
    """Tell the saga one fact. Total: every fact is accepted in every state.

    TIMED_OUT counts only while the order is pending and is forgotten otherwise, because it is not
    a fact about the world but a reading of the clock.
    """
    if fact in saga.facts or (fact is Fact.TIMED_OUT and saga.status is not Status.PENDING):
        return Advance(saga, ())
    facts = saga.facts | {fact}
    status = saga.status
    entered: list[Status] = []
    while (onward := _next_status(status, facts)) is not None:
        status = onward
        entered.append(status)
    return Advance(OrderSaga(status, facts), tuple(entered))


def has_ended(saga: OrderSaga) -> bool:
    """I4: whether nothing is owed any more. A late capture can re-open a cancelled saga."""
    if saga.status is Status.CANCELLED:
        return Fact.PAYMENT_FAILED in saga.facts and Fact.CAPTURED not in saga.facts
    return saga.status in (Status.CONFIRMED, Status.REFUNDED, Status.PAYMENT_FAILED)


def _next_status(status: Status, facts: frozenset[Fact]) -> Status | None:
    for needed, onward in _MOVES[status]:
        if needed is None or needed in facts:
            return onward
    return None
