"""Payments in PostgreSQL: the row of an order, its ledger entries, and the answer, together.

Every write goes through `settle` or `entomb` in a transaction of the caller. None of them is held
open while the provider is asked: the row is read, the provider answers, the row is locked and
decided on again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from month3_messaging.broker import Event
from month3_messaging.outbox import APPEND, append, to_append
from month6_capstone.payments.ledger import Entry, Money
from month6_capstone.payments.payment import Answer, Payment, Settlement, Status, tombstone
from scalelab.ids import uuid7

SOURCE = "/payments"

Connection = AsyncConnection[Any]

_COLUMNS = "order_id, payment_id, status, amount_minor, currency, charge_id, reason"

_UPSERT = """
INSERT INTO payment (order_id, payment_id, status, amount_minor, currency, charge_id, reason,
                     created_at, updated_at)
VALUES (%(order_id)s, %(payment_id)s, %(status)s, %(amount_minor)s, %(currency)s, %(charge_id)s,
        %(reason)s, %(now)s, %(now)s)
ON CONFLICT (order_id) DO UPDATE SET
    status = EXCLUDED.status, amount_minor = EXCLUDED.amount_minor,
    currency = EXCLUDED.currency, charge_id = EXCLUDED.charge_id, reason = EXCLUDED.reason,
    recheck_at = NULL, updated_at = EXCLUDED.updated_at
"""

_SETTLE = f"""
WITH kept AS ({_UPSERT}
), entries AS (
    INSERT INTO ledger_entry (entry_id, order_id, kind, currency, at)
    SELECT entry_id, %(order_id)s, kind, currency, %(now)s
      FROM unnest(%(entry_ids)s::uuid[], %(kinds)s::text[], %(currencies)s::text[])
           AS e (entry_id, kind, currency)
), postings AS (
    INSERT INTO ledger_posting (entry_id, account, amount_minor)
    SELECT * FROM unnest(%(posted_to)s::uuid[], %(accounts)s::text[], %(amounts)s::bigint[])
), told AS ({APPEND})
SELECT
"""  # noqa: S608 - constants

_LOOK = f"""
SELECT EXISTS (SELECT FROM inbox WHERE consumer = %(consumer)s AND event_id = %(event_id)s),
       {_COLUMNS}
  FROM (SELECT) AS always LEFT JOIN payment ON order_id = %(order_id)s
"""  # noqa: S608 - constant column list


async def find(conn: Connection, order_id: UUID) -> Payment | None:
    """The payment of an order, as last committed."""
    cursor = await conn.execute(
        f"SELECT {_COLUMNS} FROM payment WHERE order_id = %s",  # noqa: S608 - constant column list
        (order_id,),
        prepare=True,
    )
    return _payment(await cursor.fetchone())


async def lock(conn: Connection, order_id: UUID) -> Payment | None:
    """Like `find`, and keeps other deliveries about this order out until the transaction ends.

    The advisory lock also covers an order that has no row yet.
    """
    await conn.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (str(order_id),), prepare=True
    )
    return await find(conn, order_id)


async def seen(conn: Connection, consumer: str, event_id: UUID) -> bool:
    """Whether an event took effect already: spares a useless question to the provider."""
    cursor = await conn.execute(
        "SELECT 1 FROM inbox WHERE consumer = %s AND event_id = %s",
        (consumer, event_id),
        prepare=True,
    )
    return await cursor.fetchone() is not None


async def look(
    conn: Connection, order_id: UUID, *, consumer: str, event_id: UUID
) -> tuple[bool, Payment | None]:
    """`seen` and `find` in one round trip."""
    cursor = await conn.execute(
        _LOOK,
        {"consumer": consumer, "event_id": event_id, "order_id": order_id},
        prepare=True,
    )
    row = await cursor.fetchone()
    if row is None:
        raise AssertionError("an outer join of one row returned none")
    return row[0], None if row[1] is None else _payment(row[1:])


async def settle(conn: Connection, settlement: Settlement, topic: str, now: datetime) -> None:
    """Write the row, its entries and the answer, inside the caller's transaction. One statement."""
    payment = settlement.payment
    money = payment.money
    await conn.execute(
        _SETTLE,
        {
            "order_id": payment.order_id,
            "payment_id": payment.payment_id,
            "status": payment.status.value,
            "amount_minor": None if money is None else money.amount_minor,
            "currency": None if money is None else money.currency,
            "charge_id": payment.charge_id,
            "reason": payment.reason,
            "now": now,
            **_entries(settlement.entries, now),
            **to_append(answer_event(settlement, now), topic),
        },
        prepare=True,
    )


async def answer(conn: Connection, settlement: Settlement, topic: str, now: datetime) -> None:
    """Publish what a settled row says, without changing it."""
    await append(conn, answer_event(settlement, now), topic)


async def entomb(
    conn: Connection, order_id: UUID, *, now: datetime, recheck_at: datetime
) -> Payment:
    """Make sure the order has a row: the tombstone if there was none. Returns what is there.

    `recheck_at`: when to ask the provider once more for a charge that nobody knows of.
    """
    existing = await lock(conn, order_id)
    if existing is not None:
        return existing
    stone = tombstone(order_id, uuid7(now))
    await conn.execute(
        "INSERT INTO payment (order_id, payment_id, status, reason, recheck_at, created_at,"
        " updated_at) VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (order_id, stone.payment_id, stone.status.value, stone.reason, recheck_at, now, now),
    )
    return stone


async def due_for_recheck(conn: Connection, now: datetime, limit: int) -> list[Payment]:
    """Tombstones whose time has come to look for a late charge, oldest first."""
    cursor = await conn.execute(
        f"SELECT {_COLUMNS} FROM payment"  # noqa: S608 - constant column list
        " WHERE recheck_at <= %s ORDER BY recheck_at LIMIT %s",
        (now, limit),
    )
    rows = [_payment(row) for row in await cursor.fetchall()]
    return [row for row in rows if row is not None]


async def rechecked(conn: Connection, order_id: UUID) -> None:
    """The provider knows of no charge: the tombstone needs no further look."""
    await conn.execute("UPDATE payment SET recheck_at = NULL WHERE order_id = %s", (order_id,))


def _entries(entries: Sequence[Entry], now: datetime) -> dict[str, Any]:
    """The ledger's columns as arrays."""
    ids = [uuid7(now) for _ in entries]
    postings = [(at, p) for at, entry in zip(ids, entries, strict=True) for p in entry.postings]
    return {
        "entry_ids": ids,
        "kinds": [entry.kind.value for entry in entries],
        "currencies": [entry.currency for entry in entries],
        "posted_to": [at for at, _ in postings],
        "accounts": [posting.account.value for _, posting in postings],
        "amounts": [posting.amount_minor for _, posting in postings],
    }


def answer_event(settlement: Settlement, now: datetime) -> Event:
    """The event that a settlement publishes; money and id only where money moved."""
    payment = settlement.payment
    data: dict[str, object] = {"order_id": str(payment.order_id)}
    if settlement.answer is Answer.FAILED:
        data["reason"] = payment.reason or "failed"
    elif payment.money is not None:
        data["payment_id"] = str(payment.payment_id)
        data["amount_minor"] = payment.money.amount_minor
        data["currency"] = payment.money.currency
    return Event(
        id=uuid7(now),
        type=settlement.answer.value,
        source=SOURCE,
        subject=str(payment.order_id),
        time=now,
        data=data,
    )


def _payment(row: TupleRow | None) -> Payment | None:
    if row is None:
        return None
    order_id, payment_id, status, amount_minor, currency, charge_id, reason = row
    money = None if amount_minor is None else Money(amount_minor, currency)
    return Payment(order_id, payment_id, Status(status), money, charge_id, reason)
