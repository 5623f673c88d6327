"""First move, made; and the second. Services hear of orders by events instead of being called.

    orders: place ─ placed ─► payments: charge ─ paid ─► inventory: reserve ─ reserved ─► orders

Two ways to do a step, which differ in one thing: what is one transaction.

    `Plain`     effect COMMIT, then send.      Who dies in between loses the event, and the order
                                               stops there for good. An event that comes twice has
                                               two effects: the customer pays twice.
    `Safe`      inbox row, effect and outbox   A relay sends what was committed, and an event that
                row, COMMIT.                   comes again finds its row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID, uuid4, uuid5

from month3_messaging import inbox, outbox
from month3_messaging.broker import Event, to_headers, to_value
from month3_messaging.crash_points import pass_by
from month3_messaging.moves import books
from month3_messaging.moves.rest_chain import Effect
from month3_messaging.workers import Handler
from scalelab.clients.kafka import Producer
from scalelab.clients.postgres import Database

PLACED = "moves.order.placed.v1"
PAID = "moves.order.paid.v1"
RESERVED = "moves.order.reserved.v1"
AFTER_COMMIT = "moves.after_commit"
"""The point at which a process that sends after its commit may die: see `reached`."""

_NAMESPACE = UUID("5d1cf5a2-8f53-4d0b-9f0f-0b6c2f5e7a11")


@dataclass(frozen=True, slots=True)
class Part:
    """One service's part: it hears one type of event, has one effect, and says one thing."""

    service: str
    hears: str
    effect: Effect
    says: str | None


PARTS = (
    Part("payments", PLACED, books.charge, PAID),
    Part("inventory", PAID, books.reserve, RESERVED),
    Part("orders", RESERVED, books.confirm, None),
)


class Way(Protocol):
    """How a service has an effect and tells of it."""

    async def step(self, order_id: UUID, effect: Effect, says: str | None) -> None:
        """A step that no event asked for: the order is placed."""
        ...

    def handler(self, part: Part) -> Handler:
        """What a service does with each event it hears."""
        ...


class Plain:
    """Commit, then send. reached: called between the two."""

    def __init__(
        self,
        database: Database,
        topic: str,
        producer: Producer,
        *,
        reached: Callable[[str], None] = pass_by,
    ) -> None:
        self._database = database
        self._topic = topic
        self._producer = producer
        self._reached = reached

    async def step(self, order_id: UUID, effect: Effect, says: str | None) -> None:
        async with self._database.transaction() as conn:
            await effect(conn, order_id)
        self._reached(AFTER_COMMIT)
        if says is not None:
            event = _event(order_id, says)
            await self._producer.send(
                self._topic, event.subject, to_value(event), to_headers(event)
            )

    def handler(self, part: Part) -> Handler:
        async def handle(event: Event) -> None:
            await self.step(UUID(event.subject), part.effect, part.says)

        return handle


class Safe:
    """Inbox row, effect and outbox row in one transaction; a relay sends. reached: after it."""

    def __init__(
        self, database: Database, topic: str, *, reached: Callable[[str], None] = pass_by
    ) -> None:
        self._database = database
        self._topic = topic
        self._reached = reached

    async def step(self, order_id: UUID, effect: Effect, says: str | None) -> None:
        await self._step(order_id, effect, says, None)

    def handler(self, part: Part) -> Handler:
        async def handle(event: Event) -> None:
            heard = (part.service, event.id)
            await self._step(UUID(event.subject), part.effect, part.says, heard)

        return handle

    async def _step(
        self, order_id: UUID, effect: Effect, says: str | None, heard: tuple[str, UUID] | None
    ) -> None:
        async with self._database.transaction() as conn:
            if heard is not None and not await inbox.first_time(conn, *heard):
                return
            await effect(conn, order_id)
            if says is not None:
                await outbox.append(conn, _event(order_id, says), self._topic)
        self._reached(AFTER_COMMIT)


async def place(way: Way) -> UUID:
    """Place an order: the customer is answered when it is written, whoever else is away."""
    order_id = uuid4()
    await way.step(order_id, books.place, PLACED)
    return order_id


def _event(order_id: UUID, kind: str) -> Event:
    """An order's event; a fact has one id, however often it is told."""
    return Event(uuid5(_NAMESPACE, f"{order_id} {kind}"), kind, "/moves", str(order_id), _now(), {})


def _now() -> datetime:
    return datetime.now(UTC)
