"""An order was placed: take its money once, and say so.

Order of steps, and what a crash between them leaves
    1 read the row          nothing happened yet
    2 charge the provider   the key is the order id: the next delivery gets the same charge
    3 one transaction       inbox + payment + ledger + answer, or nothing of them

No transaction is open during step 2. If the order was cancelled meanwhile, step 3 finds the
tombstone, and the charge goes back before anything is answered.
"""

from __future__ import annotations

from uuid import UUID

from month3_messaging.broker import Event
from month3_messaging.inbox import first_time
from month6_capstone.payments import postgres as store
from month6_capstone.payments.desk import Desk
from month6_capstone.payments.ledger import Money
from month6_capstone.payments.messages import Placed, parse_placed
from month6_capstone.payments.payment import (
    Charged,
    Declined,
    Payment,
    Status,
    answer_again,
    must_charge,
    settle_charge,
)
from month6_capstone.payments.refund import refund_late
from scalelab.ids import uuid7


async def capture(desk: Desk, event: Event) -> None:
    """Handle one delivery of `orders.order.placed.v1`. Safe to repeat at any point.

    Raises retryable errors when the provider or the database cannot answer, CorruptData for an
    event that can never be handled.
    """
    placed = parse_placed(event)
    async with desk.database.autocommit(read_only=True) as conn:
        is_seen, existing = await store.look(
            conn, placed.order_id, consumer=desk.consumer, event_id=event.id
        )
    if is_seen:
        return
    outcome = await _ask(desk, placed, existing)
    if outcome is None:
        await _answer_again(desk, event, placed.order_id)
    elif not await _settle(desk, event, placed.order_id, outcome):
        await refund_late(desk, placed.order_id, outcome, event=event)


async def _ask(desk: Desk, placed: Placed, existing: Payment | None) -> Charged | Declined | None:
    """The provider's word on this order; None if there is no need to ask, or nothing to hear.

    For a tombstone that is the charge which an earlier delivery may have left behind.
    """
    if must_charge(existing):
        money = Money(placed.total_minor, placed.currency)
        return await desk.provider.charge(placed.order_id, money, placed.card_token)
    if existing is not None and existing.status is Status.CANCELLED:
        return await desk.provider.find_charge(placed.order_id)
    return None


async def _settle(desk: Desk, event: Event, order_id: UUID, outcome: Charged | Declined) -> bool:
    """One transaction of step 3; False if a tombstone stands and the charge must go back."""
    now = desk.clock.now()
    async with desk.database.transaction() as conn:
        existing = await store.lock(conn, order_id)
        settlement = settle_charge(existing, outcome, order_id=order_id, payment_id=uuid7(now))
        if settlement is None:
            return False
        if await first_time(conn, desk.consumer, event.id):
            await store.settle(conn, settlement, desk.topic, now)
    return True


async def _answer_again(desk: Desk, event: Event, order_id: UUID) -> None:
    async with desk.database.transaction() as conn:
        existing = await store.lock(conn, order_id)
        if existing is not None and await first_time(conn, desk.consumer, event.id):
            await store.answer(conn, answer_again(existing), desk.topic, desk.clock.now())
