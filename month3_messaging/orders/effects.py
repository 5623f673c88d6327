"""What a fact does to an order: saga, history and outbox in one transaction.

Guarantees (with the inbox in the same transaction)
    E1  An event that was delivered again changes nothing.
    E2  Status, history, saga and the announcing event are written together or not at all.
    E3  Facts about one order are applied one at a time: its rows are locked.
    E4  An announcing event can be stored once only: its id derives from the order and its type.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from pydantic import BaseModel, ConfigDict, ValidationError

from month3_messaging.broker import Event
from month3_messaging.orders import records
from month3_messaging.orders.models import (
    SOURCE,
    Order,
    StatusChange,
    event_id,
    event_type,
)
from month3_messaging.orders.saga import ANNOUNCED, Fact, Status
from month3_messaging.orders.sessions import Sessions
from scalelab.clock import Clock
from scalelab.errors import CorruptData, InvalidInput, NotFound
from scalelab.saga import DEADLINE, SagaDefinition, SagaState, advance

FACTS: dict[str, Fact] = {
    "payments.payment.captured.v1": Fact.CAPTURED,
    "payments.payment.failed.v1": Fact.PAYMENT_FAILED,
    "payments.payment.refunded.v1": Fact.REFUNDED,
    "inventory.stock.reserved.v1": Fact.RESERVED,
    "inventory.stock.rejected.v1": Fact.REJECTED,
}
"""The events that tell the saga something."""

_REASONS: dict[str, str] = {
    Fact.PAYMENT_FAILED: "payment_failed",
    Fact.REJECTED: "out_of_stock",
    DEADLINE: "payment_timed_out",
}


class _Payload(BaseModel):
    """The members of the consumed events that count here. More of them are welcome."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    order_id: UUID
    reason: str | None = None
    amount_minor: int | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class News:
    """What happened to an order: a fact or DEADLINE, what caused it, and its details."""

    name: str
    cause: UUID
    reason: str | None = None
    amount_minor: int | None = None
    currency: str | None = None


def _ignore(_status: Status) -> None:
    return


@dataclass(frozen=True, slots=True)
class SagaEffects:
    """Carries out what the saga decides. consumer: the inbox's name of this consumer.

    reached: called at each crash point ("saga.before_commit", "saga.after_commit").
    entered: told of each status an order entered, after the commit.
    """

    definition: SagaDefinition
    sessions: Sessions
    clock: Clock
    consumer: str = "orders"
    reached: Callable[[str], None] = lambda _point: None
    entered: Callable[[Status], None] = _ignore

    async def on_event(self, event: Event) -> None:
        """Handler of every type in FACTS.

        Raises InvalidInput or CorruptData if the event cannot mean an order here (a dead
        letter), NotFound if there is no such order (tried again later).
        """
        payload = _parse(event)
        news = News(
            FACTS[event.type], event.id, payload.reason, payload.amount_minor, payload.currency
        )
        async with self.sessions.for_order(payload.order_id) as session:
            found = await records.lock_first_time(
                session.conn, payload.order_id, consumer=self.consumer, event_id=event.id
            )
            if found is None:
                raise NotFound(f"there is no order {payload.order_id}")
            order, state, is_first = found
            if not is_first:
                return
            statuses = await apply(
                session.conn, self.definition, order, state, news, now=self.clock.now()
            )
            self.reached("saga.before_commit")
        self.reached("saga.after_commit")
        for status in statuses:
            self.entered(status)

    async def sweep(
        self,
        transaction: Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]],
        *,
        limit: int = 100,
    ) -> int:
        """Tell the sagas of one database whose deadline has passed; returns how many were due.

        transaction: on that database, where only the list is read. Each order is told in a session
        of its own, which leads to where the order is by then. Safe in several processes at once.
        """
        async with transaction() as conn:
            due = await records.overdue(conn, self.clock.now(), limit=limit)
        for order_id in due:
            news = News(DEADLINE, event_id(order_id, DEADLINE))
            async with self.sessions.for_order(order_id) as session:
                found = await records.lock(session.conn, order_id)
                if found is None:
                    raise NotFound(f"there is no order {order_id}")
                statuses = await apply(
                    session.conn, self.definition, *found, news, now=self.clock.now()
                )
            for status in statuses:
                self.entered(status)
        return len(due)


async def apply(
    conn: AsyncConnection[Any],
    definition: SagaDefinition,
    order: Order,
    state: SagaState,
    news: News,
    *,
    now: datetime,
) -> tuple[Status, ...]:
    """Tell the saga of an order that `conn` has locked the news; returns the statuses entered.

    One statement, in the caller's transaction, or none if the saga does not care. Raises
    CorruptData if a capture is not of the order's total.
    """
    _check_amount(order, news)
    onward, effects = advance(definition, state, news.name)
    if onward is state:
        return ()
    statuses = tuple(Status(effect.name) for effect in effects)
    limit_s = definition.deadline_s(onward.step)
    # At most one status of a step is announced (see saga.py): a statement appends one event.
    announced = [
        _announcement(order, status, news, now) for status in statuses if status in ANNOUNCED
    ]
    await records.advance(
        conn,
        order,
        [StatusChange(at, status, now) for at, status in enumerate(statuses, order.version + 1)],
        onward,
        cause=news.cause,
        deadline_at=None if limit_s is None else order.placed_at + timedelta(seconds=limit_s),
        ended_at=now if onward.ended else None,
        announced=announced[-1] if announced else None,
    )
    return statuses


def _parse(event: Event) -> _Payload:
    try:
        payload = _Payload.model_validate(dict(event.data))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidInput(f"{event.type}: {first['loc']}: {first['msg']}") from error
    if str(payload.order_id) != event.subject:
        raise CorruptData(f"{event.type} is about {event.subject!r} but says {payload.order_id}")
    return payload


def _check_amount(order: Order, news: News) -> None:
    if news.name not in (Fact.CAPTURED, Fact.REFUNDED):
        return
    if (news.amount_minor, news.currency) != (order.total_minor, order.currency):
        raise CorruptData(
            f"{news.name} {news.amount_minor} {news.currency} for order {order.order_id}"
            f" of {order.total_minor} {order.currency}"
        )


def _announcement(order: Order, status: Status, news: News, now: datetime) -> Event:
    order_id = str(order.order_id)
    data: dict[str, object] = {"order_id": order_id}
    if status in (Status.PAID, Status.PAYMENT_FAILED, Status.CANCELLED):
        data["hold_id"] = str(order.hold_id)
    if status is Status.PAID:
        data["user_id"] = order.user_id
        data["lines"] = [
            {"product_id": line.product_id, "quantity": line.quantity} for line in order.lines
        ]
    if status in (Status.PAYMENT_FAILED, Status.CANCELLED):
        data["reason"] = news.reason or _REASONS.get(news.name, news.name)
    kind = event_type(status)
    return Event(event_id(order.order_id, kind), kind, SOURCE, order_id, now, data)
