"""What a partner answers to an event about an order. Pure.

Both partners follow one table, scalelab.saga.participant: a request may come twice, late, or after
its undo. Here stand only the words of each.

                 asked by                     DONE        REFUSED     UNDONE
    payment      placed (do)                  captured    failed      failed
                 cancelled (undo)                                     refunded, or failed
    stock        paid (do)                    reserved    rejected    rejected
                 cancelled, failed (undo)                             released

A payment that was undone answers "refunded" if there was money to give back, "failed" if not.
"""

from __future__ import annotations

from scalelab.saga.participant import Request, Stand, Verdict, decide

DECLINED_CARD = "tok_4000000000000002"
"""The card that no bank pays for; every other one pays."""

CAPTURED = "payments.payment.captured.v1"
FAILED = "payments.payment.failed.v1"
REFUNDED = "payments.payment.refunded.v1"
RESERVED = "inventory.stock.reserved.v1"
REJECTED = "inventory.stock.rejected.v1"
RELEASED = "inventory.stock.released.v1"


def on_placed(stand: Stand, card_token: str) -> tuple[Verdict, str]:
    """Take the money, unless the order is over already. Returns the verdict and the answer."""
    verdict = decide(stand, Request.DO, possible=card_token != DECLINED_CARD)
    return verdict, CAPTURED if verdict.answer is Stand.DONE else FAILED


def on_cancelled(stand: Stand, *, was_paid: bool) -> tuple[Verdict, str]:
    """Give back what was taken. was_paid: money of this order was captured at some time."""
    verdict = decide(stand, Request.UNDO)
    return verdict, REFUNDED if was_paid else FAILED


def on_paid(stand: Stand, *, enough_free: bool) -> tuple[Verdict, str]:
    """Promise the stock for good. enough_free: counts only if nothing was ever held."""
    verdict = decide(stand, Request.DO, possible=enough_free)
    return verdict, RESERVED if verdict.answer is Stand.DONE else REJECTED


def on_over(stand: Stand) -> tuple[Verdict, str]:
    """Nothing of this order stays held."""
    return decide(stand, Request.UNDO), RELEASED
