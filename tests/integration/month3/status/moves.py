"""Moving orders along, as payments and inventory would."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from month3_messaging.broker import Event
from month3_messaging.orders import SagaEffects, order_saga
from scalelab.clock import SystemClock
from tests.integration.month3.orders_bed import Shop

TOTAL = 2 * 1250 + 399


async def tell(shop: Shop, order_id: str, kind: str) -> None:
    data = {"order_id": order_id, "amount_minor": TOTAL, "currency": "EUR"}
    event = Event(uuid4(), kind, "/test", order_id, datetime.now(UTC), data)
    await SagaEffects(order_saga(600.0), shop.sessions, SystemClock()).on_event(event)


async def captured(shop: Shop, order_id: str) -> None:
    """pending -> paid (2)."""
    await tell(shop, order_id, "payments.payment.captured.v1")


async def reserved(shop: Shop, order_id: str) -> None:
    """paid -> stock_reserved (3) -> confirmed (4), the end."""
    await tell(shop, order_id, "inventory.stock.reserved.v1")


async def placed(shop: Shop, key: str = "key-1", user: str = "ann") -> str:
    """A new order (1)."""
    _, body, _ = await shop.place(user, key)
    return body["order_id"]
