"""An order was cancelled: give back what was taken, and never take anything again.

Order of steps, and what a crash between them leaves
    1 entomb           the row now says `cancelled` unless money was captured: from here on no
                       delivery of `placed` keeps a charge
    2 ask and refund   the key is derived from the order id: the next delivery gets the same refund
    3 one transaction  inbox + payment + ledger + answer, or nothing of them

A charge can still surface after step 3: a capture whose answer was lost, dead-lettered before it
could look again. So each tombstone is looked at once more later (`recheck`).
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from month3_messaging.broker import Event
from month3_messaging.inbox import first_time
from month6_capstone.payments import postgres as store
from month6_capstone.payments.desk import Desk
from month6_capstone.payments.messages import parse_cancelled
from month6_capstone.payments.payment import (
    Charged,
    Declined,
    Payment,
    Status,
    answer_again,
    must_refund,
    settle_late_charge,
    settle_refund,
)
from scalelab.errors import InvariantBroken


async def give_back(desk: Desk, event: Event) -> None:
    """Handle one delivery of `orders.order.cancelled.v1`. Safe to repeat at any point.

    Raises retryable errors when the provider or the database cannot answer.
    """
    order_id = parse_cancelled(event).order_id
    now = desk.clock.now()
    recheck_at = now + timedelta(seconds=desk.recheck_s)
    async with desk.database.transaction() as conn:
        if await store.seen(conn, desk.consumer, event.id):
            return
        row = await store.entomb(conn, order_id, now=now, recheck_at=recheck_at)
    if must_refund(row):
        await desk.provider.refund(order_id, _charge_id(row))
    elif row.status is Status.CANCELLED:
        charge = await desk.provider.find_charge(order_id)
        if charge is not None:
            await refund_late(desk, order_id, charge, event=event)
            return
    await _settle_refund(desk, event, order_id)


async def refund_late(
    desk: Desk, order_id: UUID, charge: Charged | Declined, *, event: Event | None = None
) -> None:
    """Refund a charge that surfaced behind a tombstone, then book both movements.

    With an `event`, its inbox row is written too and decides whether to answer.
    """
    if isinstance(charge, Declined):
        raise InvariantBroken(f"order {order_id}: a declined charge has nothing to refund")
    await desk.provider.refund(order_id, charge.charge_id)
    now = desk.clock.now()
    async with desk.database.transaction() as conn:
        row = await store.lock(conn, order_id)
        if row is None or (event is None and row.status is not Status.CANCELLED):
            return
        if event is None or await first_time(conn, desk.consumer, event.id):
            await store.settle(conn, settle_late_charge(row, charge), desk.topic, now)


async def recheck(desk: Desk, *, limit: int = 100) -> int:
    """Look for charges behind tombstones that are due; returns how many went back.

    Bounded by `limit` per call; a failing provider raises and leaves the rest for the next call.
    """
    async with desk.database.autocommit(read_only=True) as conn:
        due = await store.due_for_recheck(conn, desk.clock.now(), limit)
    refunded = 0
    for stone in due:
        charge = await desk.provider.find_charge(stone.order_id)
        if charge is None:
            async with desk.database.autocommit() as conn:
                await store.rechecked(conn, stone.order_id)
            continue
        await refund_late(desk, stone.order_id, charge)
        refunded += 1
    return refunded


async def _settle_refund(desk: Desk, event: Event, order_id: UUID) -> None:
    now = desk.clock.now()
    async with desk.database.transaction() as conn:
        row = await store.lock(conn, order_id)
        if row is None or not await first_time(conn, desk.consumer, event.id):
            return
        if row.status is Status.CAPTURED:
            await store.settle(conn, settle_refund(row), desk.topic, now)
        else:
            await store.answer(conn, answer_again(row), desk.topic, now)


def _charge_id(row: Payment) -> str:
    if row.charge_id is None:
        raise InvariantBroken(f"payment of order {row.order_id} is captured without a charge")
    return row.charge_id
