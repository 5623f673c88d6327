"""What payments and stock say, whatever comes in whatever order."""

from __future__ import annotations

import itertools

import pytest

from month3_messaging.partners.answers import (
    CAPTURED,
    DECLINED_CARD,
    FAILED,
    REFUNDED,
    REJECTED,
    RELEASED,
    RESERVED,
    on_cancelled,
    on_over,
    on_paid,
    on_placed,
)
from scalelab.saga.participant import Stand, Work

CARD = "tok_4242424242424242"


@pytest.mark.parametrize("card", [CARD, DECLINED_CARD])
@pytest.mark.parametrize("requests", list(itertools.product("pc", repeat=3)))
def test_money_is_kept_only_by_an_order_that_was_never_cancelled(
    card: str, requests: tuple[str, ...]
) -> None:
    """Placed and cancelled in every order, with repeats."""
    stand, balance, captures = Stand.UNTOUCHED, 0, 0
    for request in requests:
        if request == "p":
            verdict, _ = on_placed(stand, card)
        else:
            verdict, _ = on_cancelled(stand, was_paid=captures > 0)
        stand = verdict.stand
        captures += verdict.work is Work.CARRY_OUT
        balance += {Work.CARRY_OUT: 1, Work.TAKE_BACK: -1, Work.NOTHING: 0}[verdict.work]
    assert captures <= 1
    assert balance == (1 if card == CARD and "c" not in requests else 0)


def test_a_payment_says_what_is_true_of_it() -> None:
    """Captured, declined, and after a cancellation: refunded only if there was money."""
    assert on_placed(Stand.UNTOUCHED, CARD)[1] == CAPTURED
    assert on_placed(Stand.UNTOUCHED, DECLINED_CARD)[1] == FAILED
    assert on_placed(Stand.UNDONE, CARD)[1] == FAILED
    assert on_cancelled(Stand.DONE, was_paid=True)[1] == REFUNDED
    assert on_cancelled(Stand.UNTOUCHED, was_paid=False)[1] == FAILED


def test_stock_is_promised_by_a_hold_that_stands_or_by_what_is_free() -> None:
    """A hold that ended is rejected even if pieces are free: somebody else may count on them."""
    assert on_paid(Stand.DONE, enough_free=False)[1] == RESERVED
    assert on_paid(Stand.UNTOUCHED, enough_free=True)[1] == RESERVED
    assert on_paid(Stand.UNTOUCHED, enough_free=False)[1] == REJECTED
    assert on_paid(Stand.UNDONE, enough_free=True)[1] == REJECTED
    verdict, answer = on_over(Stand.DONE)
    assert (verdict.work, answer) == (Work.TAKE_BACK, RELEASED)
