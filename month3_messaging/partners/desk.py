"""What happens to an order's money and stock: one transaction for each event.

The inbox row, the part, the moved stock and the answer commit together or not at all. So an event
that is delivered again changes nothing, and one whose effect was lost is delivered again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated, Any, TypeVar
from uuid import UUID

from psycopg import AsyncConnection
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from month3_messaging.broker import Event
from month3_messaging.inbox import first_time
from month3_messaging.orders import PAYMENTS_TOPIC, STOCK_TOPIC
from month3_messaging.outbox import append
from month3_messaging.partners import postgres as store
from month3_messaging.partners.answers import on_cancelled, on_over, on_paid, on_placed
from month3_messaging.partners.postgres import Line, Part, Role
from scalelab.clients.postgres import Database
from scalelab.clock import Clock
from scalelab.errors import Conflict, CorruptData, NotFound
from scalelab.ids import uuid7
from scalelab.saga.participant import Request, Stand, Work, decide

PLACED = "orders.order.placed.v1"
PAID = "orders.order.paid.v1"
PAYMENT_FAILED = "orders.order.payment_failed.v1"
CANCELLED = "orders.order.cancelled.v1"

_TOPICS = {Role.PAYMENT: PAYMENTS_TOPIC, Role.STOCK: STOCK_TOPIC}
_SOURCES = {Role.PAYMENT: "/payments", Role.STOCK: "/inventory"}

M = TypeVar("M", bound=BaseModel)


class _About(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    order_id: UUID
    hold_id: UUID


class _Placed(_About):
    total_minor: Annotated[int, Field(gt=0, strict=True)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    card_token: str


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    product_id: str
    quantity: Annotated[int, Field(gt=0, strict=True)]


class _Paid(_About):
    lines: Annotated[list[_Line], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Desk:
    """Both partners. payments, stock: the names of their consumer groups in the inbox."""

    database: Database
    clock: Clock
    payments: str = "payments"
    stock: str = "stock"

    async def hold(self, hold_id: UUID, lines: tuple[Line, ...], ttl_s: float) -> bool:
        """Hold all lines or none; True if this call took them, False if the hold stands.

        Raises NotFound `unknown_product`, Conflict `out_of_stock` or, for a hold that is over,
        `hold_closed`. A refusal leaves nothing behind: the same hold may be asked for again.
        """
        async with self.database.transaction() as conn:
            part = await store.lock(conn, Role.STOCK, hold_id)
            if part.stand is Stand.DONE and set(part.lines) == set(lines):
                return False
            if part.stand is not Stand.UNTOUCHED:
                raise Conflict("this hold was closed or is for other lines", code="hold_closed")
            if not await _enough(conn, lines):
                raise Conflict("not enough stock", code="out_of_stock")
            expires_at = self.clock.now() + timedelta(seconds=ttl_s)
            await store.take(conn, lines)
            held = replace(part, stand=Stand.DONE, lines=lines, expires_at=expires_at)
            await store.save(conn, held)
        return True

    async def capture(self, event: Event) -> None:
        """`placed`: take the money, or say why not."""
        placed = _parse(_Placed, event)
        async with self.database.transaction() as conn:
            if not await first_time(conn, self.payments, event.id):
                return
            part = await store.lock(conn, Role.PAYMENT, placed.order_id)
            verdict, answer = on_placed(part.stand, placed.card_token)
            after = replace(part, stand=verdict.stand)
            if verdict.work is Work.CARRY_OUT:
                after = replace(after, amount_minor=placed.total_minor, currency=placed.currency)
            await store.save(conn, after)
            await self._answer(conn, after, placed, answer)

    async def give_back(self, event: Event) -> None:
        """`cancelled`: refund what was captured; what is still on its way will take nothing."""
        about = _parse(_About, event)
        async with self.database.transaction() as conn:
            if not await first_time(conn, self.payments, event.id):
                return
            part = await store.lock(conn, Role.PAYMENT, about.order_id)
            verdict, answer = on_cancelled(part.stand, was_paid=part.amount_minor is not None)
            after = replace(part, stand=verdict.stand)
            await store.save(conn, after)
            await self._answer(conn, after, about, answer)

    async def reserve(self, event: Event) -> None:
        """`paid`: the hold becomes a reservation without an end, if it still stands."""
        paid = _parse(_Paid, event)
        lines = tuple(Line(line.product_id, line.quantity) for line in paid.lines)
        async with self.database.transaction() as conn:
            if not await first_time(conn, self.stock, event.id):
                return
            part = await store.lock(conn, Role.STOCK, paid.hold_id)
            enough = part.stand is Stand.UNTOUCHED and await _enough(conn, lines)
            verdict, answer = on_paid(part.stand, enough_free=enough)
            after = replace(part, stand=verdict.stand, expires_at=None)
            if verdict.work is Work.CARRY_OUT:
                await store.take(conn, lines)
                after = replace(after, lines=lines)
            elif verdict.stand is Stand.DONE and set(part.lines) != set(lines):
                raise CorruptData(f"order {paid.order_id} was paid for other lines than it holds")
            await store.save(conn, after)
            await self._answer(conn, after, paid, answer)

    async def release(self, event: Event) -> None:
        """`payment_failed` or `cancelled`: nothing of the order stays held."""
        about = _parse(_About, event)
        async with self.database.transaction() as conn:
            if not await first_time(conn, self.stock, event.id):
                return
            part = await store.lock(conn, Role.STOCK, about.hold_id)
            verdict, answer = on_over(part.stand)
            after = await _undone(conn, part, verdict.work)
            await self._answer(conn, after, about, answer)

    async def sweep(self, *, limit: int = 100) -> int:
        """End the holds whose time ran out before their order was paid; returns how many."""
        now = self.clock.now()
        async with self.database.autocommit(read_only=True) as conn:
            due = await store.due_holds(conn, now, limit=limit)
        ended = 0
        for hold_id in due:
            async with self.database.transaction() as conn:
                part = await store.lock(conn, Role.STOCK, hold_id)
                # Read again under the lock: it may have been paid meanwhile.
                if part.stand is Stand.DONE and part.expires_at and part.expires_at <= now:
                    await _undone(conn, part, decide(part.stand, Request.UNDO).work)
                    ended += 1
        return ended

    async def _answer(
        self, conn: AsyncConnection[Any], part: Part, about: _About, kind: str
    ) -> None:
        now = self.clock.now()
        data: dict[str, object] = {"order_id": str(about.order_id)}
        if part.role is Role.STOCK:
            data["hold_id"] = str(about.hold_id)
        elif part.amount_minor is not None:
            data |= {"amount_minor": part.amount_minor, "currency": part.currency}
        subject = str(about.order_id)
        event = Event(uuid7(now), kind, _SOURCES[part.role], subject, now, data)
        await append(conn, event, _TOPICS[part.role])


async def _enough(conn: AsyncConnection[Any], lines: tuple[Line, ...]) -> bool:
    """Whether all lines are free, their rows locked. Raises NotFound for an unknown product."""
    free = await store.lock_free(conn, lines)
    unknown = sorted({line.product_id for line in lines} - free.keys())
    if unknown:
        raise NotFound(f"no such product: {', '.join(unknown[:5])}", code="unknown_product")
    return all(free[line.product_id] >= line.quantity for line in lines)


async def _undone(conn: AsyncConnection[Any], part: Part, work: Work) -> Part:
    if work is Work.TAKE_BACK:
        await store.take(conn, part.lines, sign=-1)
    after = replace(store.emptied(part), stand=Stand.UNDONE)
    await store.save(conn, after)
    return after


def _parse(kind: type[M], event: Event) -> M:
    try:
        return kind.model_validate(dict(event.data))
    except ValidationError as error:
        where = ", ".join(".".join(map(str, one["loc"])) for one in error.errors())
        raise CorruptData(f"{event.type} {event.id} is malformed: {where}") from error
