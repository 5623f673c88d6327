"""The life of one order's payment, as decisions over values.

Theory of operation
    Two facts about an order arrive in any order, any number of times: it was placed (take the
    money) and it was cancelled (give it back). Between them stands a provider whose answer may be
    late or lost. One row per order remembers what was settled:

        (none) --placed, charged-----> captured --cancelled, refunded--> refunded
        (none) --placed, declined----> failed
        (none) --cancelled-----------> cancelled   the tombstone: a later `placed` takes nothing
        cancelled --a charge shows up late, is booked and refunded at once--> refunded

Invariants (tests cite them)
    P1  At most one capture and one refund per order, whatever the order of deliveries.
    P2  Once cancelled, no money is kept: every charge that shows up is refunded.
    P3  Every event that must be answered is answered with what is true in the row.

Absent on purpose: I/O. `capture.py` and `refund.py` talk to the provider between two decisions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID

from month6_capstone.payments.ledger import Entry, Money, capture, refund


class Status(StrEnum):
    """What has been settled for an order."""

    CAPTURED = "captured"
    FAILED = "failed"
    REFUNDED = "refunded"
    CANCELLED = "cancelled"


class Answer(StrEnum):
    """The event type that tells the order what became of its money."""

    CAPTURED = "payments.payment.captured.v1"
    FAILED = "payments.payment.failed.v1"
    REFUNDED = "payments.payment.refunded.v1"


REASON_CANCELLED = "cancelled"
"""Why a payment failed when its order was cancelled before any money was taken."""


@dataclass(frozen=True, slots=True)
class Payment:
    """One row. charge_id and money are None while nothing was ever charged."""

    order_id: UUID
    payment_id: UUID
    status: Status
    money: Money | None = None
    charge_id: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Charged:
    """The provider took the money and will say the same for ever."""

    charge_id: str
    money: Money


@dataclass(frozen=True, slots=True)
class Declined:
    """The provider refused; asking again with the same key gets the same refusal."""

    reason: str


@dataclass(frozen=True, slots=True)
class Settlement:
    """What one transaction writes: the row's new state, ledger entries, and the answer."""

    payment: Payment
    entries: tuple[Entry, ...]
    answer: Answer


def must_charge(existing: Payment | None) -> bool:
    """Whether a `placed` order still has to be charged: only if nothing is settled for it."""
    return existing is None


def must_refund(existing: Payment | None) -> bool:
    """Whether a cancelled order has money of the customer's in our books."""
    return existing is not None and existing.status is Status.CAPTURED


def settle_charge(
    existing: Payment | None, outcome: Charged | Declined, *, order_id: UUID, payment_id: UUID
) -> Settlement | None:
    """What to write once the provider answered a charge.

    `existing` is the row as locked *after* the answer. None means that the row is a tombstone and
    the charge must be refunded first: the caller does so, then asks `settle_late_charge`.
    A row that was settled meanwhile (a duplicate) is answered with what it says (P1, P3).
    """
    if existing is not None and existing.status is Status.CANCELLED:
        return None if isinstance(outcome, Charged) else answer_again(existing)
    if existing is not None:
        return answer_again(existing)
    if isinstance(outcome, Declined):
        failed = Payment(order_id, payment_id, Status.FAILED, reason=outcome.reason)
        return Settlement(failed, (), Answer.FAILED)
    captured = Payment(order_id, payment_id, Status.CAPTURED, outcome.money, outcome.charge_id)
    return Settlement(captured, (capture(order_id, outcome.money),), Answer.CAPTURED)


def settle_refund(captured: Payment) -> Settlement:
    """What to write once the provider refunded a captured payment.

    A row that another delivery already turned to refunded is answered again, not booked again.
    """
    if captured.status is not Status.CAPTURED or captured.money is None:
        return answer_again(captured)
    entry = refund(captured.order_id, captured.money)
    return Settlement(replace(captured, status=Status.REFUNDED), (entry,), Answer.REFUNDED)


def settle_late_charge(tombstone: Payment, charge: Charged) -> Settlement:
    """What to write for a charge that surfaced after the cancellation and is now refunded (P2).

    Both movements are booked, so that the ledger and the provider's book stay line by line equal.
    """
    if tombstone.status is not Status.CANCELLED:
        return answer_again(tombstone)
    payment = replace(
        tombstone, status=Status.REFUNDED, money=charge.money, charge_id=charge.charge_id
    )
    order_id = tombstone.order_id
    entries = (capture(order_id, charge.money), refund(order_id, charge.money))
    return Settlement(payment, entries, Answer.REFUNDED)


def tombstone(order_id: UUID, payment_id: UUID) -> Payment:
    """The row that makes a cancellation outlive a `placed` event that is still on its way."""
    return Payment(order_id, payment_id, Status.CANCELLED, reason=REASON_CANCELLED)


def answer_again(existing: Payment) -> Settlement:
    """The answer that a settled row gives to any further event: no new entries (P1, P3)."""
    answers = {
        Status.CAPTURED: Answer.CAPTURED,
        Status.REFUNDED: Answer.REFUNDED,
        Status.FAILED: Answer.FAILED,
        Status.CANCELLED: Answer.FAILED,
    }
    return Settlement(existing, (), answers[existing.status])
