"""Orders as their events stand in the log: made up, along the paths that the saga can take."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4, uuid5

from month3_messaging.broker import Event, to_headers, to_value
from month3_messaging.orders import Status
from scalelab.clients.kafka import Message, open_producer

PATHS = (
    (Status.PENDING,),
    (Status.PENDING, Status.PAID, Status.CONFIRMED),
    (Status.PENDING, Status.PAYMENT_FAILED),
    (Status.PENDING, Status.PAID, Status.CANCELLED, Status.REFUNDED),
)
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_LINES = [{"product_id": "p-1", "quantity": 1, "unit_minor": 300}]


def events_of(path: Sequence[Status], user_id: str = "ann") -> list[Event]:
    """What a new order announces along `path`, a second apart."""
    order_id = uuid4()
    return [
        _event(order_id, status, user_id, _BEGIN + timedelta(seconds=number))
        for number, status in enumerate(path)
    ]


def some_orders(rounds: int) -> list[Event]:
    """One order a path, so many times."""
    return [event for _ in range(rounds) for path in PATHS for event in events_of(path)]


async def publish(bootstrap: str, topic: str, events: Sequence[Event]) -> None:
    """Send them in their order; the events of an order land in one partition."""
    async with open_producer(bootstrap, "order-log") as producer:
        await producer.send_all(
            Message(topic, event.subject, to_value(event), to_headers(event)) for event in events
        )


def _event(order_id: UUID, status: Status, user_id: str, at: datetime) -> Event:
    is_placing = status is Status.PENDING
    kind = f"orders.order.{'placed' if is_placing else status}.v1"
    data: dict[str, object] = {"order_id": str(order_id)}
    if is_placing:
        data |= {"user_id": user_id, "lines": _LINES, "total_minor": 300, "currency": "EUR"}
    return Event(uuid5(order_id, kind), kind, "/orders", str(order_id), at, data)
