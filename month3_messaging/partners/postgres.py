"""What the partners store: products with their stock, and where each saga stands with each role.

Locks, always in this order, so that no two transactions wait for each other in a circle:
    1 the row of the part      2 product rows by ascending product_id
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection, Connection
from psycopg.types.json import Jsonb

from scalelab.saga.participant import Stand


class Role(StrEnum):
    """Which partner. A payment's saga is the order, stock's is the hold."""

    PAYMENT = "payment"
    STOCK = "stock"


@dataclass(frozen=True, slots=True)
class Line:
    """quantity pieces (>= 1) of one product."""

    product_id: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Part:
    """One saga at one partner. expires_at: when a hold ends by itself; None once it was paid.

    amount_minor: what was taken, kept after a refund; None if nothing ever was.
    """

    role: Role
    saga_id: UUID
    stand: Stand = Stand.UNTOUCHED
    lines: tuple[Line, ...] = ()
    expires_at: datetime | None = None
    amount_minor: int | None = None
    currency: str | None = None


async def lock(conn: AsyncConnection[Any], role: Role, saga_id: UUID) -> Part:
    """The part, locked until the transaction ends; an UNTOUCHED one if nobody knows the saga."""
    await conn.execute(
        "INSERT INTO part (role, saga_id) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (role, saga_id),
        prepare=True,
    )
    cursor = await conn.execute(
        "SELECT stand, lines, expires_at, amount_minor, currency FROM part"
        " WHERE role = %s AND saga_id = %s FOR UPDATE",
        (role, saga_id),
        prepare=True,
    )
    row = await cursor.fetchone()
    assert row is not None
    stand, lines, expires_at, amount_minor, currency = row
    return Part(
        role,
        saga_id,
        Stand(stand),
        tuple(Line(name, int(number)) for name, number in lines),
        expires_at,
        amount_minor,
        currency,
    )


async def save(conn: AsyncConnection[Any], part: Part) -> None:
    """Write a part that this transaction has locked."""
    await conn.execute(
        "UPDATE part SET stand = %s, lines = %s, expires_at = %s, amount_minor = %s, currency = %s"
        " WHERE role = %s AND saga_id = %s",
        (
            part.stand.value,
            Jsonb([[line.product_id, line.quantity] for line in part.lines]),
            part.expires_at,
            part.amount_minor,
            part.currency,
            part.role,
            part.saga_id,
        ),
        prepare=True,
    )


async def lock_free(conn: AsyncConnection[Any], lines: Sequence[Line]) -> dict[str, int]:
    """Free pieces of each product that is known, its row locked in ascending order."""
    cursor = await conn.execute(
        "SELECT product_id, free FROM product WHERE product_id = ANY (%s)"
        " ORDER BY product_id FOR NO KEY UPDATE",
        ([line.product_id for line in lines],),
        prepare=True,
    )
    return {name: free for name, free in await cursor.fetchall()}


async def take(conn: AsyncConnection[Any], lines: Iterable[Line], *, sign: int = 1) -> None:
    """Move the lines' pieces from free to taken, or with sign -1 back. The rows are locked."""
    ordered = sorted(lines, key=lambda line: line.product_id)
    await conn.execute(
        "WITH wanted AS MATERIALIZED (SELECT * FROM unnest(%s::text[], %s::bigint[])"
        " AS w (product_id, quantity)), locked AS MATERIALIZED ("
        "SELECT p.product_id FROM product p JOIN wanted USING (product_id)"
        " ORDER BY p.product_id FOR NO KEY UPDATE OF p)"
        " UPDATE product p SET free = p.free - w.quantity, taken = p.taken + w.quantity"
        " FROM wanted w JOIN locked USING (product_id) WHERE p.product_id = w.product_id",
        ([line.product_id for line in ordered], [sign * line.quantity for line in ordered]),
        prepare=True,
    )


async def due_holds(conn: AsyncConnection[Any], now: datetime, *, limit: int) -> list[UUID]:
    """Holds whose time has run out, the oldest first."""
    cursor = await conn.execute(
        "SELECT saga_id FROM part WHERE stand = 'done' AND expires_at <= %s"
        " ORDER BY expires_at LIMIT %s",
        (now, limit),
        prepare=True,
    )
    return [saga_id for (saga_id,) in await cursor.fetchall()]


async def prices(conn: AsyncConnection[Any], product_ids: Collection[str]) -> dict[str, int]:
    """Minor units of each product that is sold."""
    cursor = await conn.execute(
        "SELECT product_id, unit_minor FROM product WHERE product_id = ANY (%s)",
        (list(product_ids),),
        prepare=True,
    )
    return {name: unit_minor for name, unit_minor in await cursor.fetchall()}


async def books(conn: AsyncConnection[Any]) -> dict[str, int]:
    """kept_minor: captured and not given back. taken, promised: pieces, by product and by hold."""
    cursor = await conn.execute(
        "SELECT (SELECT coalesce(sum(amount_minor), 0)::bigint FROM part"
        "         WHERE role = 'payment' AND stand = 'done'),"
        "       (SELECT coalesce(sum(taken), 0)::bigint FROM product),"
        "       (SELECT coalesce(sum((line ->> 1)::bigint), 0)::bigint FROM part,"
        "               jsonb_array_elements(lines) AS line"
        "         WHERE role = 'stock' AND stand = 'done')"
    )
    row = await cursor.fetchone()
    assert row is not None
    return {"kept_minor": row[0], "taken": row[1], "promised": row[2]}


def seed(conn: Connection[Any], products: int, *, pieces: int) -> None:
    """Products p-0001 … with `pieces` each; those that are there stay as they are."""
    conn.execute(
        "INSERT INTO product (product_id, unit_minor, initial, free)"
        " SELECT 'p-' || lpad(n::text, 4, '0'), 100 + (n * 7919) %% 9900, %(pieces)s, %(pieces)s"
        " FROM generate_series(1, %(products)s) AS n ON CONFLICT DO NOTHING",
        {"products": products, "pieces": pieces},
    )


def emptied(part: Part) -> Part:
    """The same part with nothing promised."""
    return replace(part, lines=(), expires_at=None)
