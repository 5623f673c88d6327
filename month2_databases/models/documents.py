"""The order model as documents: one JSONB value an order, found by what is in it.

An order is read and written whole, without a join; what belongs to it needs no table, and a field
more needs no migration. What the normal forms gave is gone: a product's title stands in every order
that has it, no foreign key looks into a document, and what a field holds is up to whoever writes
it, as far as the CHECKs below do not say.

    body @> '{"lines": [{"sku": "tea"}]}'     by the GIN index (jsonb_path_ops): containment alone

A changed field writes the whole value again, and the GIN index with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from month2_databases.models.cassandra import Line, RingOrder
from scalelab.errors import Conflict, NotFound

DOCUMENTS = """
CREATE TABLE IF NOT EXISTS order_document (
    order_id uuid PRIMARY KEY,
    body jsonb NOT NULL,
    CHECK (jsonb_typeof(body -> 'lines') IS NOT DISTINCT FROM 'array'),
    CHECK (jsonb_array_length(body -> 'lines') > 0),
    CHECK (jsonb_typeof(body -> 'user_id') IS NOT DISTINCT FROM 'string'),
    CHECK (jsonb_typeof(body -> 'state') IS NOT DISTINCT FROM 'string')
);
CREATE INDEX IF NOT EXISTS order_document_body ON order_document USING gin (body jsonb_path_ops);
"""


async def store(conn: AsyncConnection, order: RingOrder) -> None:
    """Write an order. Raises psycopg's UniqueViolation if it is there."""
    await conn.execute(
        "INSERT INTO order_document VALUES (%s, %s)", (order.order_id, Jsonb(document_of(order)))
    )


async def load(conn: AsyncConnection, order_id: UUID) -> RingOrder:
    """One order, whole. Raises NotFound."""
    cursor = await conn.execute("SELECT body FROM order_document WHERE order_id = %s", (order_id,))
    row = await cursor.fetchone()
    if row is None:
        raise NotFound(f"there is no order {order_id}")
    return order_of(order_id, row[0])


async def containing(conn: AsyncConnection, sku: str) -> list[UUID]:
    """Orders with a line of this thing, by the GIN index."""
    cursor = await conn.execute(
        "SELECT order_id FROM order_document WHERE body @> %s ORDER BY order_id",
        (Jsonb({"lines": [{"sku": sku}]}),),
    )
    return [row[0] for row in await cursor.fetchall()]


async def move(conn: AsyncConnection, order_id: UUID, *, expected: str, state: str) -> None:
    """Change the state, if it is as expected, in one statement. Raises Conflict."""
    cursor = await conn.execute(
        "UPDATE order_document SET body = jsonb_set(body, '{state}', to_jsonb(%s::text))"
        " WHERE order_id = %s AND body ->> 'state' = %s",
        (state, order_id, expected),
    )
    if cursor.rowcount == 0:
        raise Conflict(f"order {order_id} is not {expected}")


def document_of(order: RingOrder) -> dict[str, Any]:
    """The order as JSON, its id apart."""
    return {
        "user_id": order.user_id,
        "placed_at": order.placed_at.isoformat(),
        "state": order.state,
        "lines": [
            {"sku": line.sku, "quantity": line.quantity, "unit_cents": line.unit_cents}
            for line in order.lines
        ],
    }


def order_of(order_id: UUID, body: Mapping[str, Any]) -> RingOrder:
    """The order that a document is of."""
    lines: Sequence[Mapping[str, Any]] = body["lines"]
    return RingOrder(
        order_id,
        body["user_id"],
        datetime.fromisoformat(body["placed_at"]),
        tuple(Line(one["sku"], one["quantity"], one["unit_cents"]) for one in lines),
        body["state"],
    )
