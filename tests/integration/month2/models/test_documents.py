"""The order model as JSONB: whole orders, found by what is in them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from month2_databases.indexes import explain
from month2_databases.models import DOCUMENTS, Line, RingOrder
from month2_databases.models.documents import containing, document_of, load, move, store
from scalelab.errors import Conflict, NotFound

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.fixture
async def conn(database_dsn: str) -> AsyncIterator[AsyncConnection]:
    """The table, empty."""
    async with await AsyncConnection.connect(database_dsn, autocommit=True) as opened:
        await opened.execute(DOCUMENTS)
        yield opened


def _order(*skus: str) -> RingOrder:
    lines = tuple(Line(sku, 2, 300) for sku in skus)
    return RingOrder(uuid.uuid4(), "user-7", NOON, lines)


async def test_an_order_comes_back_as_it_was_stored(conn: AsyncConnection) -> None:
    """Whole, in one row; the same key twice is refused."""
    order = _order("tea", "cup")
    await store(conn, order)
    assert await load(conn, order.order_id) == order
    with pytest.raises(psycopg.errors.UniqueViolation):
        await store(conn, order)
    with pytest.raises(NotFound):
        await load(conn, uuid.uuid4())


async def test_orders_are_found_by_a_line_and_by_the_index(conn: AsyncConnection) -> None:
    """Containment, so a teapot is no tea; and the GIN index answers, not the table."""
    wanted = [_order("tea"), _order("cup", "tea")]
    for order in (*wanted, _order("teapot"), *(_order(f"sku-{n}") for n in range(300))):
        await store(conn, order)
    assert await containing(conn, "tea") == sorted(order.order_id for order in wanted)
    await conn.execute("VACUUM ANALYZE order_document")
    statement = "SELECT order_id FROM order_document WHERE body @> %s"
    plan = await explain(conn, statement, (Jsonb({"lines": [{"sku": "tea"}]}),))
    assert plan.indexes == ("order_document_body",)


async def test_the_index_knows_containment_and_nothing_else(conn: AsyncConnection) -> None:
    """The same question by ->> reads the table: an index serves operators, not meanings."""
    for n in range(300):
        await store(conn, _order(f"sku-{n}"))
    await conn.execute("VACUUM ANALYZE order_document")
    statement = "SELECT order_id FROM order_document WHERE body -> 'lines' -> 0 ->> 'sku' = 'sku-7'"
    assert (await explain(conn, statement)).kinds == ("Seq Scan",)


async def test_a_state_changes_only_from_the_expected_one(conn: AsyncConnection) -> None:
    """In one statement, so two at once do not both succeed."""
    order = _order("tea")
    await store(conn, order)
    await move(conn, order.order_id, expected="pending", state="paid")
    with pytest.raises(Conflict):
        await move(conn, order.order_id, expected="pending", state="cancelled")
    assert (await load(conn, order.order_id)).state == "paid"


@pytest.mark.parametrize(
    "change", [{"lines": []}, {"lines": "tea"}, {"lines": None}, {"state": 7}, {"user_id": None}]
)
async def test_a_document_without_its_parts_is_refused(
    conn: AsyncConnection, change: dict[str, object]
) -> None:
    """By the CHECKs: they are all that a document has for a schema."""
    body = document_of(_order("tea")) | change
    with pytest.raises(psycopg.Error):
        await conn.execute(
            "INSERT INTO order_document VALUES (%s, %s)", (uuid.uuid4(), Jsonb(body))
        )


async def test_no_key_looks_into_a_document(conn: AsyncConnection) -> None:
    """A thing that does not exist is ordered, and nobody objects: the price of the freedom."""
    order = _order("no such thing")
    await store(conn, order)
    assert await load(conn, order.order_id) == order
