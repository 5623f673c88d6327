"""Rows of an order say their slot: those from before are filled, new ones by their transaction."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import psycopg
import pytest

from month3_messaging.orders import MIGRATIONS, MOVING_TABLES, STAYING_TABLE, SagaEffects
from scalelab.clients.migrations import upgrade
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.hashing import SLOT_SETTING
from scalelab.ids import slot_of
from tests.integration.month3.orders.test_effects import captured, effects_of
from tests.integration.month3.orders_bed import Shop, open_shop, order_body

ALL_TABLES = (*MOVING_TABLES, STAYING_TABLE)


def slots_in(dsn: str) -> dict[str, set[int | None]]:
    """By table, the slots that its rows name."""
    with psycopg.connect(dsn) as conn:
        return {
            table: {row[0] for row in conn.execute(f"SELECT slot FROM {table}".encode())}
            for table in ALL_TABLES
        }


async def paid_order(shop: Shop, effects: SagaEffects) -> UUID:
    """An order with a row in every table."""
    _, told, _ = await shop.place("ann", str(uuid4()), order_body())
    order_id = UUID(told["order_id"])
    await effects.on_event(captured(str(order_id)))
    return order_id


async def test_rows_from_before_get_their_orders_slot(database_dsn: str) -> None:
    """Every table, without a look at who wrote the row; what names no order goes."""
    await asyncio.to_thread(upgrade, database_dsn, MIGRATIONS, target="0001")
    async with Database(PostgresSettings(database_dsn), name="old") as database:
        async with open_shop(database) as shop:
            order_id = await paid_order(shop, effects_of(shop))
        async with database.transaction() as conn:
            await conn.execute("INSERT INTO inbox VALUES ('orders', %s)", (uuid4(),))
    for _ in range(2):
        await asyncio.to_thread(upgrade, database_dsn, MIGRATIONS)
    assert slots_in(database_dsn) == {table: {slot_of(order_id)} for table in ALL_TABLES}


async def test_a_row_takes_the_slot_that_its_transaction_was_admitted_to(
    shop: Shop, orders_dsn: str
) -> None:
    """The setting is the transaction's own; without it the column stays empty."""
    await paid_order(shop, effects_of(shop))
    assert slots_in(orders_dsn) == {table: {None} for table in ALL_TABLES}
    with psycopg.connect(orders_dsn) as conn:
        conn.execute("SELECT set_config(%s, '7', true)", (SLOT_SETTING,))
        conn.execute("INSERT INTO inbox (consumer, event_id) VALUES ('x', %s)", (uuid4(),))
        conn.commit()
        conn.execute("INSERT INTO inbox (consumer, event_id) VALUES ('y', %s)", (uuid4(),))
        found = dict(conn.execute("SELECT consumer, slot FROM inbox WHERE consumer <> 'orders'"))
    assert found == {"x": 7, "y": None}


async def test_an_order_cannot_be_filed_under_another_slot(shop: Shop, orders_dsn: str) -> None:
    """The id carries the slot, and the database holds the row to it."""
    order_id = await paid_order(shop, effects_of(shop))
    with psycopg.connect(orders_dsn) as conn:
        conn.execute("UPDATE orders SET slot = %s", (slot_of(order_id),))
        with pytest.raises(psycopg.errors.CheckViolation):
            conn.execute("UPDATE orders SET slot = %s", ((slot_of(order_id) + 1) % 256,))
