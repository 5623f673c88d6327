"""Order events as they stand in the log, and what the view must say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4, uuid5

from psycopg import sql

from month3_messaging.broker import Event, to_headers, to_value
from month3_messaging.orders import Status
from month3_messaging.readmodel import Generation, look
from scalelab.clients.kafka import Message, Record, open_producer
from scalelab.clients.postgres import Database

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
PATHS = (
    (Status.PENDING,),
    (Status.PENDING, Status.PAID, Status.CONFIRMED),
    (Status.PENDING, Status.PAYMENT_FAILED),
    (Status.PENDING, Status.PAID, Status.CANCELLED, Status.REFUNDED),
)

Rows = dict[UUID, tuple[str, str, int]]
"""User, status and number of statuses by order id."""


def events_of(path: Sequence[Status], user_id: str = "ann") -> list[Event]:
    """A new order's events along that path."""
    order_id = uuid4()
    return [
        _event(order_id, status, user_id, _BEGIN + timedelta(seconds=number))
        for number, status in enumerate(path)
    ]


def _event(order_id: UUID, status: Status, user_id: str, at: datetime) -> Event:
    placed = status is Status.PENDING
    kind = f"orders.order.{'placed' if placed else status}.v1"
    data: dict[str, object] = {"order_id": str(order_id)}
    if placed:
        lines = [{"product_id": "p-1", "quantity": 1, "unit_minor": 300}]
        data |= {"user_id": user_id, "lines": lines, "total_minor": 300, "currency": "EUR"}
    return Event(uuid5(order_id, kind), kind, "/orders", str(order_id), at, data)


@dataclass(slots=True)
class Log:
    """The records of a topic in memory, for tests that need no broker; one partition or more."""

    partitions: int = 1
    records: list[Record] = field(default_factory=list[Record])

    def add(self, events: Sequence[Event], partition: int = 0) -> list[Record]:
        """Append; returns what was appended."""
        added = [
            Record("t", partition, at, one.subject, to_value(one), dict(to_headers(one)), 0)
            for at, one in enumerate(events, self.ends()[partition])
        ]
        self.records += added
        return added

    def ends(self) -> dict[int, int]:
        """The next offset of each partition."""
        return {
            partition: sum(one.partition == partition for one in self.records)
            for partition in range(self.partitions)
        }


def rows_of(events: Sequence[Event]) -> Rows:
    """What the view must show after all of these events of orders that were placed."""
    rows: Rows = {}
    for event in events:
        order_id = UUID(event.subject)
        status = event.type.split(".")[2].replace("placed", "pending")
        user, _, number = rows.get(order_id, (str(event.data.get("user_id")), "", 0))
        rows[order_id] = (user, status, number + 1)
    return rows


async def shown(database: Database, what: str = "order_view") -> Rows:
    """What the view shows now, or a generation's table; in one statement."""
    query = sql.SQL("SELECT order_id, user_id, status, jsonb_array_length(entered) FROM {}")
    async with database.autocommit(read_only=True) as conn:
        cursor = await conn.execute(query.format(sql.Identifier(what)))
        return {row[0]: tuple(row[1:]) for row in await cursor.fetchall()}


async def generations(database: Database) -> dict[int, Generation]:
    """All that are there."""
    async with database.autocommit(read_only=True) as conn:
        return await look(conn)


async def publish(bootstrap: str, topic: str, events: Sequence[Event]) -> None:
    """Send them in their order; equal subjects land in one partition."""
    async with open_producer(bootstrap, "test") as producer:
        await producer.send_all(
            Message(topic, one.subject, to_value(one), to_headers(one)) for one in events
        )
