"""From an order's events to a job at the broker, once an order.

    placed     a row that waits, with what the invoice will say       one transaction, with the
    confirmed  the row is ready                                       event's inbox row
    cancelled, payment_failed   the row is forgotten
    sending    rows that are ready go to the job broker, then are marked

Theory of operation
    The row is the job; the broker only says "look at this order". Between the send and the mark
    lies the gap of every relay: who dies there sends again, and the second message finds the job
    done. What the broker forgets (a Redis without its data) is sent again after `resend_after_s`.

Guarantees
    J1  A confirmed order has one job, however often its events come.
    J2  A ready job is with the broker at least once in every `resend_after_s`, until it is done or
        parked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

from psycopg.types.json import Jsonb

from month3_messaging import inbox
from month3_messaging.broker import Event
from month3_messaging.workers import Handler
from scalelab.clients.postgres import Database
from scalelab.errors import CorruptData, ScalelabError
from scalelab.telemetry import Log

GROUP = "invoices"
PLACED = "orders.order.placed.v1"
CONFIRMED = "orders.order.confirmed.v1"
CANCELLED = "orders.order.cancelled.v1"
PAYMENT_FAILED = "orders.order.payment_failed.v1"
_BATCH = 100


class Intake:
    """send: hands an order's job to the broker; blocking, raises Unavailable."""

    def __init__(
        self, database: Database, send: Callable[[UUID], None], *, resend_after_s: float
    ) -> None:
        self._database = database
        self._send = send
        self._resend_after_s = resend_after_s
        self._wake = asyncio.Event()

    @property
    def handlers(self) -> dict[str, Handler]:
        """By event type, for an EventConsumer of group `GROUP`."""
        return {
            PLACED: self.on_placed,
            CONFIRMED: self.on_confirmed,
            CANCELLED: self.on_ended,
            PAYMENT_FAILED: self.on_ended,
        }

    async def on_placed(self, event: Event) -> None:
        """Keep what the invoice will say."""
        async with self._database.transaction() as conn:
            if await inbox.first_time(conn, GROUP, event.id):
                await conn.execute(
                    "INSERT INTO job (order_id, content) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                    (_order_of(event), Jsonb(dict(event.data))),
                )

    async def on_confirmed(self, event: Event) -> None:
        """The job is ready. Raises CorruptData, code `unknown_order`, if it was never placed."""
        async with self._database.transaction() as conn:
            if not await inbox.first_time(conn, GROUP, event.id):
                return
            cursor = await conn.execute(
                "UPDATE job SET state = 'ready', changed_at = now()"
                " WHERE order_id = %s AND state = 'waiting'",
                (_order_of(event),),
            )
            if cursor.rowcount == 0:
                raise CorruptData(
                    f"order {event.subject} is confirmed and was never placed",
                    code="unknown_order",
                )
        self._wake.set()

    async def on_ended(self, event: Event) -> None:
        """No invoice will be made."""
        async with self._database.transaction() as conn:
            if await inbox.first_time(conn, GROUP, event.id):
                await conn.execute(
                    "DELETE FROM job WHERE order_id = %s AND state = 'waiting'",
                    (_order_of(event),),
                )

    async def send_ready(self) -> int:
        """Hand jobs that are due to the broker and mark them; returns how many.

        Raises Unavailable if database or broker is away: those not marked are sent again.
        """
        async with self._database.transaction() as conn:
            cursor = await conn.execute(
                "SELECT order_id FROM job WHERE state = 'ready' AND (enqueued_at IS NULL"
                " OR enqueued_at < now() - make_interval(secs => %s))"
                " ORDER BY enqueued_at NULLS FIRST LIMIT %s FOR UPDATE SKIP LOCKED",
                (self._resend_after_s, _BATCH),
            )
            due: list[UUID] = [row[0] for row in await cursor.fetchall()]
            if due:
                await asyncio.to_thread(self._send_all, due)
                await conn.execute(
                    "UPDATE job SET enqueued_at = now() WHERE order_id = ANY (%s)", (due,)
                )
        return len(due)

    async def keep_sending(self, log: Log, *, every_s: float = 1.0) -> None:
        """Send what is due, whenever an order was confirmed and every so often; for ever."""
        while True:
            try:
                if await self.send_ready() == _BATCH:
                    continue
            except ScalelabError as error:
                log.warning("jobs_not_sent", code=error.stable_code, error=str(error))
            self._wake.clear()
            try:
                async with asyncio.timeout(every_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _send_all(self, orders: list[UUID]) -> None:
        for order_id in orders:
            self._send(order_id)


def _order_of(event: Event) -> UUID:
    try:
        return UUID(event.subject)
    except ValueError as error:
        raise CorruptData(f"{event.subject!r} is no order's id", code="unknown_order") from error
