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
from month6_capstone.payments.provider_client import ProviderClient
from month6_capstone.payments.refund import refund_late
from scalelab.clients.postgres import Database
from scalelab.clock import Clock
from scalelab.ids import uuid7


async def capture(
    event: Event, *, database: Database, provider: ProviderClient, consumer: str, clock: Clock
) -> None:
    """Handle one delivery of `orders.order.placed.v1`. Safe to repeat at any point.

    Raises retryable errors when the provider or the database cannot answer, CorruptData for an
    event that can never be handled.
    """
    placed = parse_placed(event)
    async with database.autocommit() as conn:
        if await store.seen(conn, consumer, event.id):
            return
        existing = await store.find(conn, placed.order_id)
    if must_charge(existing):
        money = Money(placed.total_minor, placed.currency)
        outcome = await provider.charge(placed.order_id, money, placed.card_token)
    else:
        outcome = await _earlier_outcome(existing, placed, provider)
    if outcome is not None and await _settle(
        event, placed.order_id, outcome, database, consumer, clock
    ):
        return
    if isinstance(outcome, Charged):
        await refund_late(
            placed.order_id,
            outcome,
            database=database,
            provider=provider,
            clock=clock,
            event=event,
            consumer=consumer,
        )
        return
    await _answer_again(event, placed.order_id, database, consumer, clock)


async def _earlier_outcome(
    existing: Payment | None, placed: Placed, provider: ProviderClient
) -> Charged | None:
    """For a tombstone: the charge that an earlier delivery may have left behind."""
    if existing is not None and existing.status is Status.CANCELLED:
        return await provider.find_charge(placed.order_id)
    return None


async def _settle(
    event: Event,
    order_id: UUID,
    outcome: Charged | Declined,
    database: Database,
    consumer: str,
    clock: Clock,
) -> bool:
    """One transaction of step 3; False if a tombstone stands and the charge must go back."""
    now = clock.now()
    async with database.transaction() as conn:
        existing = await store.lock(conn, order_id)
        settlement = settle_charge(existing, outcome, order_id=order_id, payment_id=uuid7(now))
        if settlement is None:
            return False
        if await first_time(conn, consumer, event.id):
            await store.settle(conn, settlement, now)
    return True


async def _answer_again(
    event: Event, order_id: UUID, database: Database, consumer: str, clock: Clock
) -> None:
    async with database.transaction() as conn:
        existing = await store.lock(conn, order_id)
        if existing is not None and await first_time(conn, consumer, event.id):
            await store.answer(conn, answer_again(existing), clock.now())
