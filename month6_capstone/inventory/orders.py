"""What orders tell inventory, and what inventory answers: one transaction per event.

The inbox row, the moved stock, the hold's new state and the answer commit together or not at all,
so a redelivered event changes nothing, and an event whose effect was lost is delivered again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from month3_messaging.broker import Event
from month3_messaging.outbox import append
from month6_capstone.inventory import postgres as store
from month6_capstone.inventory.stock import (
    Answer,
    Hold,
    HoldState,
    Line,
    Settlement,
    in_order,
    on_order_over,
    on_paid,
    shortages,
)
from scalelab.clients.postgres import Database
from scalelab.clock import Clock
from scalelab.errors import CorruptData
from scalelab.ids import uuid7

CONSUMER = "inventory"
"""The consumer group, and the name under which the inbox remembers events."""

TOPIC = "inventory.stock"
"""Where inventory says what became of an order's stock."""

SOURCE = "/inventory"
PAID = "orders.order.paid.v1"
PAYMENT_FAILED = "orders.order.payment_failed.v1"
CANCELLED = "orders.order.cancelled.v1"
OVER = frozenset({PAYMENT_FAILED, CANCELLED})


M = TypeVar("M", bound=BaseModel)


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    product_id: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
    quantity: Annotated[int, Field(gt=0, strict=True)]


class _Over(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    order_id: UUID
    hold_id: UUID


class _Paid(_Over):
    user_id: str
    lines: Annotated[list[_Line], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Desk:
    """The store and names that both event handlers work with."""

    database: Database
    clock: Clock
    consumer: str = CONSUMER
    topic: str = TOPIC


async def reserve(desk: Desk, event: Event) -> None:
    """Handle one delivery of `orders.order.paid.v1`.

    Raises CorruptData for an event that can never be handled, retryable errors otherwise.
    """
    paid = _parse(_Paid, event)
    lines = in_order(Line(line.product_id, line.quantity) for line in paid.lines)
    now = desk.clock.now()
    async with desk.database.transaction() as conn:
        is_first, existing = await store.lock_hold_first_time(
            conn, paid.hold_id, consumer=desk.consumer, event_id=event.id
        )
        if not is_first:
            return
        if existing is not None and existing.lines and existing.lines != lines:
            raise CorruptData(f"order {paid.order_id} was paid for other lines than it holds")
        levels = {}
        if existing is None or existing.state in (HoldState.EXPIRED, HoldState.RELEASED):
            levels = await store.lock_levels(conn, [line.product_id for line in lines])
        settlement = on_paid(existing, enough_free=not shortages(levels, lines))
        verdict = _Verdict(settlement, _answer(paid, settlement, now), desk.topic, now)
        await _settle(conn, paid, existing, verdict, lines=lines, user_id=paid.user_id)


async def release(desk: Desk, event: Event) -> None:
    """Handle one delivery of `payment_failed` or `cancelled`: nothing of the order stays held."""
    over = _parse(_Over, event)
    now = desk.clock.now()
    async with desk.database.transaction() as conn:
        is_first, existing = await store.lock_hold_first_time(
            conn, over.hold_id, consumer=desk.consumer, event_id=event.id
        )
        if not is_first:
            return
        settlement = on_order_over(existing)
        verdict = _Verdict(settlement, _answer(over, settlement, now), desk.topic, now)
        await _settle(conn, over, existing, verdict, lines=(), user_id="")


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What is to be written about an order's stock, and told on `topic`."""

    settlement: Settlement
    answer: Event
    topic: str
    now: datetime


async def _settle(
    conn: store.Connection,
    about: _Over,
    existing: Hold | None,
    verdict: _Verdict,
    *,
    lines: tuple[Line, ...],
    user_id: str,
) -> None:
    if existing is not None and existing.order_id not in (None, about.order_id):
        raise CorruptData(f"hold {about.hold_id} belongs to another order than {about.order_id}")
    settlement, now = verdict.settlement, verdict.now
    reserved = settlement.state is HoldState.RESERVED
    if existing is None:
        kept = lines if reserved else ()
        hold = Hold(about.hold_id, settlement.state, kept, None, about.order_id)
        await store.move(conn, settlement.move, kept)
        await store.add_hold(conn, hold, user_id=user_id, now=now)
        await append(conn, verdict.answer, verdict.topic)
        return
    own = existing.lines or lines
    hold = replace(
        existing,
        state=settlement.state,
        expires_at=None,
        order_id=about.order_id,
        lines=own if reserved else existing.lines,
    )
    await store.settle(
        conn, hold, settlement.move, own, now=now, answer=verdict.answer, topic=verdict.topic
    )
    if not existing.lines:
        await store.add_lines(conn, hold)


def _answer(about: _Over, settlement: Settlement, now: datetime) -> Event:
    data: dict[str, object] = {"order_id": str(about.order_id), "hold_id": str(about.hold_id)}
    if settlement.answer is Answer.REJECTED:
        data["reason"] = settlement.reason or "rejected"
    return Event(
        id=uuid7(now),
        type=settlement.answer.value,
        source=SOURCE,
        subject=str(about.order_id),
        time=now,
        data=data,
    )


def _parse(kind: type[M], event: Event) -> M:
    try:
        return kind.model_validate(event.data)
    except ValidationError as error:
        where = ", ".join(".".join(str(part) for part in e["loc"]) for e in error.errors())
        raise CorruptData(f"event {event.id} of type {event.type} is malformed: {where}") from error
