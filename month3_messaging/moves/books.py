"""The books of all three moves: an order, its money, its stock. And what must be true of them.

Nothing here keeps an effect from happening twice: no unique key stands over a charge. That is the
moves' affair, and the books are to show where one fails at it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from scalelab.clients.postgres import Database

DDL = """
CREATE TABLE placed_order (
    order_id uuid PRIMARY KEY,
    state    text NOT NULL DEFAULT 'placed' CHECK (state IN ('placed', 'failed', 'confirmed'))
);
CREATE TABLE charge (order_id uuid NOT NULL, at timestamptz NOT NULL DEFAULT now());
CREATE TABLE reservation (order_id uuid NOT NULL, at timestamptz NOT NULL DEFAULT now());
"""


@dataclass(frozen=True, slots=True)
class Tally:
    """In orders. charged_unconfirmed: money taken, and no confirmed order for it. charged_twice:
    more than one charge."""

    placed: int
    failed: int
    confirmed: int
    charged_unconfirmed: int
    charged_twice: int


async def place(conn: AsyncConnection[Any], order_id: UUID) -> None:
    """A new order."""
    await conn.execute("INSERT INTO placed_order (order_id) VALUES (%s)", (order_id,))


async def charge(conn: AsyncConnection[Any], order_id: UUID) -> None:
    """Take the money."""
    await conn.execute("INSERT INTO charge (order_id) VALUES (%s)", (order_id,))


async def reserve(conn: AsyncConnection[Any], order_id: UUID) -> None:
    """Put the goods aside."""
    await conn.execute("INSERT INTO reservation (order_id) VALUES (%s)", (order_id,))


async def confirm(conn: AsyncConnection[Any], order_id: UUID) -> None:
    """The order will be sent."""
    await _end(conn, order_id, "confirmed")


async def fail(conn: AsyncConnection[Any], order_id: UUID) -> None:
    """The customer was told that it is not."""
    await _end(conn, order_id, "failed")


async def tally(database: Database) -> Tally:
    """What the books say now."""
    async with database.autocommit(read_only=True) as conn:
        cursor = await conn.execute(
            "SELECT count(*), count(*) FILTER (WHERE state = 'failed'),"
            " count(*) FILTER (WHERE state = 'confirmed'),"
            " count(*) FILTER (WHERE state <> 'confirmed' AND charges > 0),"
            " count(*) FILTER (WHERE charges > 1)"
            " FROM (SELECT state, (SELECT count(*) FROM charge AS c"
            "       WHERE c.order_id = o.order_id) AS charges FROM placed_order AS o) AS orders"
        )
        row = await cursor.fetchone()
    return Tally(*(row or (0, 0, 0, 0, 0)))


async def _end(conn: AsyncConnection[Any], order_id: UUID, state: str) -> None:
    await conn.execute("UPDATE placed_order SET state = %s WHERE order_id = %s", (state, order_id))
