"""The cart on PostgreSQL: one row lock makes every promise."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg import AsyncConnection

from month2_databases.consistency.cart import CartEmpty, check_quantity, closed, total
from scalelab.clients.postgres import Database

TABLES = """
CREATE TABLE IF NOT EXISTS cart (
    cart text PRIMARY KEY,
    became text
);
CREATE TABLE IF NOT EXISTS cart_line (
    cart text NOT NULL REFERENCES cart,
    sku text NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (cart, sku)
);
"""


class PostgresCart:
    """CartStore on two tables; the cart's row is locked by whoever changes anything of it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def define(self) -> None:
        """Make the tables, where they are not there."""
        async with self._database.transaction() as connection:
            await connection.execute(TABLES)

    async def lines(self, cart: str) -> Mapping[str, int]:
        async with self._database.autocommit(read_only=True) as connection:
            return await _lines(connection, cart)

    async def set_quantity(self, cart: str, sku: str, quantity: int) -> None:
        check_quantity(quantity, least=0)
        async with self._database.transaction() as connection:
            await _lock_open(connection, cart)
            await _put(connection, cart, sku, quantity)

    async def add(self, cart: str, sku: str, quantity: int) -> None:
        check_quantity(quantity, least=1)
        async with self._database.transaction() as connection:
            await _lock_open(connection, cart)
            held = (await _lines(connection, cart)).get(sku, 0)
            await _put(connection, cart, sku, total(held, quantity))

    async def check_out(self, cart: str, order: str) -> str:
        async with self._database.transaction() as connection:
            became = await _lock(connection, cart)
            if became is not None:
                return became
            if not await _lines(connection, cart):
                raise CartEmpty(f"cart {cart} is empty")
            await connection.execute("UPDATE cart SET became = %s WHERE cart = %s", (order, cart))
            return order


async def _lock(connection: AsyncConnection, cart: str) -> str | None:
    """Lock the cart's row, made if missing; returns the order it became."""
    await connection.execute(
        "INSERT INTO cart (cart) VALUES (%s) ON CONFLICT (cart) DO NOTHING", (cart,)
    )
    cursor = await connection.execute("SELECT became FROM cart WHERE cart = %s FOR UPDATE", (cart,))
    row = await cursor.fetchone()
    return row[0] if row else None


async def _lock_open(connection: AsyncConnection, cart: str) -> None:
    if await _lock(connection, cart) is not None:
        raise closed(cart)


async def _lines(connection: AsyncConnection, cart: str) -> dict[str, int]:
    cursor = await connection.execute(
        "SELECT sku, quantity FROM cart_line WHERE cart = %s ORDER BY sku", (cart,)
    )
    return dict(await cursor.fetchall())


async def _put(connection: AsyncConnection, cart: str, sku: str, quantity: int) -> None:
    if quantity == 0:
        await connection.execute("DELETE FROM cart_line WHERE cart = %s AND sku = %s", (cart, sku))
        return
    await connection.execute(
        "INSERT INTO cart_line (cart, sku, quantity) VALUES (%s, %s, %s)"
        " ON CONFLICT (cart, sku) DO UPDATE SET quantity = excluded.quantity",
        (cart, sku, quantity),
    )
