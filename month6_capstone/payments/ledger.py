"""Double entry: money moves between accounts, it never appears.

Theory of operation
    An entry is a dated fact about one order. It holds postings; a posting changes one account by a
    signed amount of minor units (debit > 0, credit < 0). Entries are only ever added. A mistake or
    a change of mind is another entry: a refund is the capture with every sign turned.

    Two accounts are enough for a shop that sells against prepayment:
        assets:provider      what the payment provider owes us
        liabilities:orders   what we owe customers until their order is fulfilled or paid back

Invariants (tests cite them; the database holds L1 and L2 as constraints too)
    L1  The postings of an entry sum to zero, in one currency.
    L2  An order has at most one capture entry and at most one refund entry.
    L3  A refund turns exactly what its capture did; balances return to where they were.

Absent on purpose: fees, partial captures, currency exchange.
Source: Pacioli 1494, "Summa de arithmetica"; differs in: signed amounts in place of two columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from scalelab.errors import InvalidInput, InvariantBroken


class Account(StrEnum):
    """The chart of accounts."""

    PROVIDER = "assets:provider"
    ORDERS = "liabilities:orders"


class EntryKind(StrEnum):
    """What an entry records."""

    CAPTURE = "capture"
    REFUND = "refund"


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in integer minor units (cents) of an ISO 4217 currency."""

    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class Posting:
    """One account changed by amount_minor: > 0 is a debit, < 0 a credit, never 0."""

    account: Account
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One fact about one order; its postings sum to zero (L1)."""

    order_id: UUID
    kind: EntryKind
    currency: str
    postings: tuple[Posting, ...]


def capture(order_id: UUID, money: Money) -> Entry:
    """The customer's money has arrived at the provider.

    Raises InvalidInput unless the amount is positive: a capture of nothing is no capture.
    """
    if money.amount_minor <= 0:
        raise InvalidInput(f"cannot capture {money.amount_minor} minor units", field="amount_minor")
    return balanced(
        Entry(
            order_id,
            EntryKind.CAPTURE,
            money.currency,
            (
                Posting(Account.PROVIDER, money.amount_minor),
                Posting(Account.ORDERS, -money.amount_minor),
            ),
        )
    )


def refund(order_id: UUID, money: Money) -> Entry:
    """The provider has paid the customer back: a capture with every sign turned (L3)."""
    captured = capture(order_id, money)
    turned = tuple(Posting(each.account, -each.amount_minor) for each in captured.postings)
    return balanced(Entry(order_id, EntryKind.REFUND, money.currency, turned))


def balanced(entry: Entry) -> Entry:
    """The entry itself, once L1 is checked. Raises InvariantBroken: a bug, never a user's fault."""
    total = sum(each.amount_minor for each in entry.postings)
    if total != 0 or len(entry.postings) < 2 or any(not p.amount_minor for p in entry.postings):
        raise InvariantBroken(f"{entry.kind} of order {entry.order_id} sums to {total}, not 0")
    return entry


def balances(entries: Iterable[Entry]) -> dict[tuple[Account, str], int]:
    """Minor units per (account, currency), over all entries. Sums to zero per currency by L1."""
    totals: dict[tuple[Account, str], int] = {}
    for entry in entries:
        for posting in entry.postings:
            where = (posting.account, entry.currency)
            totals[where] = totals.get(where, 0) + posting.amount_minor
    return totals
