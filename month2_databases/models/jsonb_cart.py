"""The cart as one JSONB document: each change is one statement, and commits on its own.

    {"lines": {"tea": 2, "cup": 1}, "order": "…"}      order: only once it has become one

The row lock that an UPDATE takes anyway is what keeps the promises: who waited for it looks at its
condition again, on the row as the one before left it. So no transaction block is needed, which
is what keeping a cart in one row buys. "Which carts hold tea?" is answered by a GIN index on keys.
"""

from __future__ import annotations

from collections.abc import Mapping

from month2_databases.consistency import (
    LARGEST,
    CartClosed,
    CartEmpty,
    CartFull,
    check_quantity,
)
from scalelab.clients.postgres import Database

CART_DOCUMENTS = """
CREATE TABLE IF NOT EXISTS cart_document (
    cart text PRIMARY KEY,
    body jsonb NOT NULL
);
CREATE INDEX IF NOT EXISTS cart_document_sku ON cart_document USING gin ((body -> 'lines'));
"""
HOLDING = "SELECT count(*) FROM cart_document WHERE body -> 'lines' ? %s"

_PUT = """
INSERT INTO cart_document AS c
VALUES (%(cart)s, jsonb_build_object('lines', jsonb_build_object(%(sku)s::text, %(quantity)s::int)))
ON CONFLICT (cart) DO UPDATE
SET body = jsonb_set(c.body, ARRAY['lines', %(sku)s], to_jsonb(%(quantity)s::int))
WHERE NOT c.body ? 'order'
"""
_TAKE_OUT = """
UPDATE cart_document SET body = body #- ARRAY['lines', %(sku)s]
WHERE cart = %(cart)s AND NOT body ? 'order'
"""
_ADD = """
INSERT INTO cart_document AS c
VALUES (%(cart)s, jsonb_build_object('lines', jsonb_build_object(%(sku)s::text, %(quantity)s::int)))
ON CONFLICT (cart) DO UPDATE
SET body = jsonb_set(
    c.body,
    ARRAY['lines', %(sku)s],
    to_jsonb(coalesce((c.body #>> ARRAY['lines', %(sku)s])::int, 0) + %(quantity)s::int)
)
WHERE NOT c.body ? 'order'
  AND coalesce((c.body #>> ARRAY['lines', %(sku)s])::int, 0) + %(quantity)s::int <= %(most)s
"""
_CHECK_OUT = """
UPDATE cart_document SET body = jsonb_set(body, '{order}', to_jsonb(%(order)s::text))
WHERE cart = %(cart)s AND NOT body ? 'order' AND body -> 'lines' <> '{}'
"""


class JsonbCart:
    """CartStore on one table of documents."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def define(self) -> None:
        """Make the table, where it is not there."""
        async with self._database.transaction() as connection:
            await connection.execute(CART_DOCUMENTS)

    async def lines(self, cart: str) -> Mapping[str, int]:
        async with self._database.autocommit(read_only=True) as connection:
            cursor = await connection.execute(
                "SELECT body -> 'lines' FROM cart_document WHERE cart = %s", (cart,)
            )
            row = await cursor.fetchone()
        return row[0] if row else {}

    async def set_quantity(self, cart: str, sku: str, quantity: int) -> None:
        check_quantity(quantity, least=0)
        values = {"cart": cart, "sku": sku, "quantity": quantity}
        changed = await self._change(_PUT if quantity else _TAKE_OUT, values)
        if not changed and await self._order_of(cart) is not None:
            raise CartClosed(f"cart {cart} has become an order")

    async def add(self, cart: str, sku: str, quantity: int) -> None:
        check_quantity(quantity, least=1)
        values = {"cart": cart, "sku": sku, "quantity": quantity, "most": LARGEST}
        if await self._change(_ADD, values):
            return
        if await self._order_of(cart) is not None:
            raise CartClosed(f"cart {cart} has become an order")
        raise CartFull(f"a cart holds at most {LARGEST} of one thing")

    async def check_out(self, cart: str, order: str) -> str:
        if await self._change(_CHECK_OUT, {"cart": cart, "order": order}):
            return order
        became = await self._order_of(cart)
        if became is None:
            raise CartEmpty(f"cart {cart} is empty")
        return became

    async def _change(self, statement: str, values: Mapping[str, object]) -> bool:
        async with self._database.autocommit() as connection:
            cursor = await connection.execute(statement.encode(), values)
            return cursor.rowcount == 1

    async def _order_of(self, cart: str) -> str | None:
        async with self._database.autocommit(read_only=True) as connection:
            cursor = await connection.execute(
                "SELECT body ->> 'order' FROM cart_document WHERE cart = %s", (cart,)
            )
            row = await cursor.fetchone()
        return row[0] if row else None
