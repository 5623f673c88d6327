"""The life of a payment, for every order in which its facts can arrive."""

from __future__ import annotations

from itertools import permutations
from uuid import UUID

import pytest

from month6_capstone.payments.ledger import Account, Entry, EntryKind, Money, balances
from month6_capstone.payments.payment import (
    Answer,
    Charged,
    Declined,
    Payment,
    Settlement,
    Status,
    answer_again,
    must_charge,
    must_refund,
    settle_charge,
    settle_late_charge,
    settle_refund,
    tombstone,
)

ORDER, PAYMENT = UUID(int=1), UUID(int=2)
CHARGE = Charged("ch_1", Money(1250, "EUR"))


class Desk:
    """The two use cases over one row and a provider that charges once per order."""

    def __init__(self, outcome: Charged | Declined) -> None:
        self.outcome = outcome
        self.row: Payment | None = None
        self.entries: list[Entry] = []
        self.answers: list[Answer] = []
        self.was_charged = False
        self.was_refunded = False

    def take(self, settlement: Settlement) -> None:
        self.row = settlement.payment
        self.entries.extend(settlement.entries)
        self.answers.append(settlement.answer)

    def charge(self) -> None:
        """Step 2 of a capture: the provider takes the money, whoever may hear of it."""
        self.was_charged |= isinstance(self.outcome, Charged)

    def placed(self) -> None:
        if must_charge(self.row):
            self.charge()
        self.settle()

    def settle(self) -> None:
        """Step 3 of a capture."""
        settlement = settle_charge(self.row, self.outcome, order_id=ORDER, payment_id=PAYMENT)
        if settlement is not None:
            self.take(settlement)
            return
        self.refund_late()

    def refund_late(self) -> None:
        assert self.row is not None
        assert isinstance(self.outcome, Charged)
        if self.was_charged:
            self.was_refunded = True
            self.take(settle_late_charge(self.row, self.outcome))

    def cancelled(self) -> None:
        self.row = self.row or tombstone(ORDER, PAYMENT)
        if must_refund(self.row):
            self.was_refunded = True
            self.take(settle_refund(self.row))
        elif self.row.status is Status.CANCELLED and self.was_charged:
            self.refund_late()
        else:
            self.take(answer_again(self.row))

    def kept_minor(self) -> int:
        return balances(self.entries).get((Account.PROVIDER, "EUR"), 0)


FACTS = ("placed", "placed", "cancelled", "cancelled", "charge")


@pytest.mark.parametrize("facts", sorted(set(permutations(FACTS))))
@pytest.mark.parametrize("outcome", [CHARGE, Declined("card_declined")])
def test_a_cancelled_order_keeps_no_money_in_any_order_of_delivery(
    outcome: Charged | Declined, facts: tuple[str, ...]
) -> None:
    """P1, P2: duplicates, tombstones and a charge whose answer was lost, in every order.

    The last event sees the charge if there was one before it; a charge after all events is what
    `recheck` is for.
    """
    desk = Desk(outcome)
    for fact in facts:
        getattr(desk, fact)()
    if desk.was_charged and not desk.was_refunded:
        desk.refund_late()
    kinds = [entry.kind for entry in desk.entries]
    assert desk.kept_minor() == 0
    assert kinds.count(EntryKind.CAPTURE) == kinds.count(EntryKind.REFUND) <= 1
    assert desk.was_charged == desk.was_refunded == (len(kinds) == 2)
    assert desk.answers
    assert Answer.FAILED in desk.answers or Answer.REFUNDED in desk.answers


def test_an_order_that_is_not_cancelled_keeps_its_capture() -> None:
    """Placed twice: captured once, answered twice alike (P1, P3)."""
    desk = Desk(CHARGE)
    desk.placed()
    desk.placed()
    assert desk.kept_minor() == 1250
    assert desk.answers == [Answer.CAPTURED, Answer.CAPTURED]


def test_a_declined_card_fails_and_takes_nothing() -> None:
    """The reason travels to the answer; a later cancellation is answered with failure too."""
    desk = Desk(Declined("card_declined"))
    desk.placed()
    desk.cancelled()
    assert desk.entries == []
    assert desk.answers == [Answer.FAILED, Answer.FAILED]
    assert desk.row is not None
    assert desk.row.reason == "card_declined"


def test_a_tombstone_charges_nothing() -> None:
    """`cancelled` before `placed`: the provider is never asked for money."""
    desk = Desk(CHARGE)
    desk.cancelled()
    assert not must_charge(desk.row)
