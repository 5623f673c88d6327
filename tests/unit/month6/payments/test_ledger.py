"""Double entry: nothing appears, nothing is lost."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month6_capstone.payments.ledger import (
    Account,
    Entry,
    EntryKind,
    Money,
    Posting,
    balanced,
    balances,
    capture,
    refund,
)
from scalelab.errors import InvalidInput, InvariantBroken

ORDER = UUID(int=1)
amounts = st.integers(min_value=1, max_value=10**12)


@given(amounts)
def test_a_capture_moves_what_the_provider_owes(amount_minor: int) -> None:
    """L1: debit the provider, credit the orders, in one currency."""
    entry = capture(ORDER, Money(amount_minor, "EUR"))
    assert balances([entry]) == {
        (Account.PROVIDER, "EUR"): amount_minor,
        (Account.ORDERS, "EUR"): -amount_minor,
    }


@given(st.lists(st.tuples(amounts, st.sampled_from(["EUR", "USD"]), st.booleans()), max_size=30))
def test_refunds_bring_every_balance_back(history: list[tuple[int, str, bool]]) -> None:
    """L3: after each capture's refund only the captures that were kept remain; L1 over all."""
    entries: list[Entry] = []
    kept = {"EUR": 0, "USD": 0}
    for amount_minor, currency, is_refunded in history:
        money = Money(amount_minor, currency)
        entries.append(capture(ORDER, money))
        if is_refunded:
            entries.append(refund(ORDER, money))
        else:
            kept[currency] += amount_minor
    totals = balances(entries)
    for currency, amount_minor in kept.items():
        assert totals.get((Account.PROVIDER, currency), 0) == amount_minor
        assert totals.get((Account.ORDERS, currency), 0) == -amount_minor


@pytest.mark.parametrize("amount_minor", [0, -1])
def test_nothing_cannot_be_captured(amount_minor: int) -> None:
    """An amount is positive."""
    with pytest.raises(InvalidInput):
        capture(ORDER, Money(amount_minor, "EUR"))


@pytest.mark.parametrize(
    "postings",
    [
        (),
        (Posting(Account.PROVIDER, 5), Posting(Account.ORDERS, -4)),
        (Posting(Account.PROVIDER, 0), Posting(Account.ORDERS, 0)),
    ],
)
def test_an_entry_that_does_not_balance_is_a_bug(postings: tuple[Posting, ...]) -> None:
    """L1 is checked where entries are made."""
    with pytest.raises(InvariantBroken):
        balanced(Entry(ORDER, EntryKind.CAPTURE, "EUR", postings))
