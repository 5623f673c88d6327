"""The order saga: which facts move an order, to where, and what is then said. Pure data.

    CAPTURED               RESERVED
    pending ------> paid ----------> (stock_reserved) confirmed
      |  |            | REJECTED
      |  |            v             REFUNDED
      |  +DEADLINE-> cancelled ----------------------> refunded
      |               | PAYMENT_FAILED: nothing was captured
      |               v
      |              cancelled, settled
      v
    payment_failed

The machine (scalelab.saga) keeps every fact it was told, so duplicates, early and late replies
need no rules here. An effect is the name of a status the order enters: the driver writes it to the
history and, if it is in ANNOUNCED, publishes `orders.order.<status>.v1`.

The pivot is `paid`. Before it time can run out; after it the saga only waits, because inventory's
answer decides and always comes. Entering `cancelled` asks payments to give back whatever it
captured or will capture. Payments answers once: refunded, or nothing was captured. It keeps the
tombstone (scalelab.saga.participant), so no answer can be overtaken by a capture.

Invariants (tests cite them)
    O1  A status is entered at most once, so each event is published at most once.
    O2  `confirmed` needs CAPTURED and RESERVED and excludes `cancelled`.
    O3  If CAPTURED is known and the order is past `paid`, it is confirmed or was cancelled.
    O4  In every world that payments and inventory can produce, in every order of delivery, the
        saga ends, and money is kept if and only if the order is confirmed.

Source: Garcia-Molina and Salem 1987, "Sagas".
"""

from __future__ import annotations

from enum import StrEnum

from scalelab.saga import DEADLINE, Kind, Rule, SagaDefinition, Step


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
    """What the saga is told by payments and inventory. The values are stored."""

    CAPTURED = "captured"
    PAYMENT_FAILED = "payment_failed"
    REFUNDED = "refunded"
    RESERVED = "reserved"
    REJECTED = "rejected"


ANNOUNCED = frozenset(
    {
        Status.PAID,
        Status.PAYMENT_FAILED,
        Status.CANCELLED,
        Status.CONFIRMED,
        Status.REFUNDED,
    }
)
"""Statuses whose entering is published."""

FINAL = frozenset({Status.CONFIRMED, Status.PAYMENT_FAILED, Status.CANCELLED, Status.REFUNDED})
"""Statuses that may be the last; only `cancelled` can still become `refunded`."""

CANCELLED_SETTLED = "cancelled_settled"
"""The end step of an order that was cancelled before anything was captured."""


def order_saga(payment_time_limit_s: float) -> SagaDefinition:
    """The table. payment_time_limit_s: how long an order may wait for its payment's outcome."""
    return SagaDefinition(
        name="order",
        start=Status.PENDING,
        steps={
            Status.PENDING: Step(
                on={
                    Fact.PAYMENT_FAILED: Rule(Status.PAYMENT_FAILED, (Status.PAYMENT_FAILED,)),
                    Fact.CAPTURED: Rule(Status.PAID, (Status.PAID,)),
                    DEADLINE: Rule(Status.CANCELLED, (Status.CANCELLED,)),
                },
                deadline_s=payment_time_limit_s,
            ),
            Status.PAID: Step(
                on={
                    Fact.REJECTED: Rule(Status.CANCELLED, (Status.CANCELLED,)),
                    Fact.RESERVED: Rule(
                        Status.CONFIRMED, (Status.STOCK_RESERVED, Status.CONFIRMED)
                    ),
                },
            ),
            Status.CANCELLED: Step(
                on={
                    Fact.REFUNDED: Rule(Status.REFUNDED, (Status.REFUNDED,)),
                    Fact.PAYMENT_FAILED: Rule(CANCELLED_SETTLED),
                },
                kind=Kind.COMPENSATING,
            ),
            Status.CONFIRMED: Step(kind=Kind.END),
            Status.PAYMENT_FAILED: Step(kind=Kind.END),
            Status.REFUNDED: Step(kind=Kind.END),
            CANCELLED_SETTLED: Step(kind=Kind.END),
        },
    )
