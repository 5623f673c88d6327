"""Read every store into one `World`.

Each database is read in one REPEATABLE READ transaction, so its tables agree with each other.
Between stores there is no common instant: the verdict is meant for a shop at rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from month6_capstone.truth.files import order_id_in, read_book, read_client_log
from month6_capstone.truth.records import (
    AnswerRow,
    HistoryRow,
    HoldRow,
    InboxRow,
    OrderRow,
    OutboxRow,
    PaymentRow,
    PostingRow,
    SagaRow,
    SlotRow,
    StockRow,
    World,
)
from month6_capstone.truth.settings import TruthSettings
from month6_capstone.truth.topics import dump
from scalelab.errors import Unavailable

Connection = AsyncConnection[DictRow]

_ORDERS = (
    "SELECT order_id::text, user_id, status, version, lines, total_minor, currency,"
    " hold_id::text, placed_at, slot FROM orders"
)
_SLOTS = "SELECT slot, state FROM shard_slot"
_HISTORY = "SELECT order_id::text, version, status FROM order_history"
_SAGAS = "SELECT order_id::text, ended_at FROM saga"
_ANSWERS = "SELECT user_id, key, status, convert_from(body, 'UTF8') AS body FROM idempotency_key"
_OUTBOX = "SELECT id, event_id::text, topic, key, type, created_at AS at FROM outbox"
_INBOX = "SELECT consumer, event_id::text FROM inbox"
_PAYMENTS = "SELECT order_id::text, status, amount_minor, currency, charge_id FROM payment"
_POSTINGS = (
    "SELECT e.entry_id::text, e.order_id::text, e.kind, e.currency, p.account,"
    " coalesce(p.amount_minor, 0) AS amount_minor"
    " FROM ledger_entry e LEFT JOIN ledger_posting p USING (entry_id)"
)
_STOCK = "SELECT product_id, initial, available, held, reserved FROM stock"
_HOLDS = (
    "SELECT h.hold_id::text, h.order_id::text, h.state, h.expires_at,"
    " coalesce(json_agg(json_build_array(l.product_id, l.quantity) ORDER BY l.product_id)"
    " FILTER (WHERE l.product_id IS NOT NULL), '[]') AS lines"
    " FROM hold h LEFT JOIN hold_line l USING (hold_id) GROUP BY h.hold_id"
)


async def collect(settings: TruthSettings) -> World:
    """The whole world. Raises Unavailable naming the store that cannot be read, CorruptData for
    a book or log that is not what it must be."""
    try:
        return await _collect(settings)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors


async def _collect(settings: TruthSettings) -> World:
    taken_at = datetime.now(UTC)
    async with asyncio.TaskGroup() as group:
        shards = [
            group.create_task(_read_shard(name, dsn, settings.timeout_s))
            for name, dsn in settings.shards.items()
        ]
        payments = group.create_task(_read_payments(settings))
        inventory = group.create_task(_read_inventory(settings))
        topic = group.create_task(dump(settings))
        book = group.create_task(asyncio.to_thread(read_book, settings.book_path))
        log = group.create_task(asyncio.to_thread(read_client_log, settings.client_log))
    parts = [*(task.result() for task in shards), payments.result(), inventory.result()]
    dead_topics = frozenset(settings.dead_letter_topics)
    return World(
        taken_at=taken_at,
        attempts=log.result(),
        book=book.result(),
        topic=tuple(record for record in topic.result() if record.topic not in dead_topics),
        dead=tuple(record for record in topic.result() if record.topic in dead_topics),
        **_joined(parts),
    )


def _joined(parts: list[dict[str, list[Any]]]) -> dict[str, Any]:
    """Rows of the same kind from all stores together."""
    rows: dict[str, list[Any]] = {}
    for part in parts:
        for kind, values in part.items():
            rows.setdefault(kind, []).extend(values)
    return {kind: tuple(values) for kind, values in rows.items()}


async def _read_shard(name: str, dsn: str, timeout_s: float) -> dict[str, list[Any]]:
    async with _snapshot(name, dsn, timeout_s) as conn:
        orders = await _rows(conn, _ORDERS)
        return {
            "slots": [SlotRow(store=name, **row) for row in await _rows(conn, _SLOTS)],
            "orders": [
                OrderRow(store=name, lines=_order_lines(row.pop("lines")), **row) for row in orders
            ],
            "history": [HistoryRow(**row) for row in await _rows(conn, _HISTORY)],
            "sagas": [SagaRow(**row) for row in await _rows(conn, _SAGAS)],
            "answers": [_answer(name, row) for row in await _rows(conn, _ANSWERS)],
            **await _read_events(name, conn),
        }


async def _read_payments(settings: TruthSettings) -> dict[str, list[Any]]:
    async with _snapshot("payments", settings.payments, settings.timeout_s) as conn:
        return {
            "payments": [PaymentRow(**row) for row in await _rows(conn, _PAYMENTS)],
            "postings": [PostingRow(**row) for row in await _rows(conn, _POSTINGS)],
            **await _read_events("payments", conn),
        }


async def _read_inventory(settings: TruthSettings) -> dict[str, list[Any]]:
    async with _snapshot("inventory", settings.inventory, settings.timeout_s) as conn:
        holds = await _rows(conn, _HOLDS)
        return {
            "stock": [StockRow(**row) for row in await _rows(conn, _STOCK)],
            "holds": [HoldRow(lines=_hold_lines(row.pop("lines")), **row) for row in holds],
            **await _read_events("inventory", conn),
        }


async def _read_events(store: str, conn: Connection) -> dict[str, list[Any]]:
    return {
        "outbox": [OutboxRow(store=store, **row) for row in await _rows(conn, _OUTBOX)],
        "inbox": [InboxRow(store=store, **row) for row in await _rows(conn, _INBOX)],
    }


@asynccontextmanager
async def _snapshot(name: str, dsn: str, timeout_s: float) -> AsyncGenerator[Connection, None]:
    """A read-only transaction that sees one instant of the database."""
    options = f"-c statement_timeout={round(timeout_s * 1000)}"
    try:
        conn = await AsyncConnection[DictRow].connect(
            dsn, row_factory=dict_row, connect_timeout=5, options=options
        )
    except psycopg.Error as error:
        raise Unavailable(f"the database of {name} cannot be reached: {error}") from error
    async with conn:
        await conn.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await conn.set_read_only(True)
        try:
            yield conn
        except psycopg.Error as error:
            raise Unavailable(f"the database of {name} cannot be read: {error}") from error


async def _rows(conn: Connection, statement: str) -> list[dict[str, Any]]:
    cursor = await conn.execute(statement.encode())
    return await cursor.fetchall()


def _order_lines(lines: list[Mapping[str, Any]]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((line["product_id"], line["quantity"]) for line in lines))


def _hold_lines(lines: list[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    return tuple((product_id, quantity) for product_id, quantity in lines)


def _answer(store: str, row: Mapping[str, Any]) -> AnswerRow:
    return AnswerRow(
        store=store,
        user_id=row["user_id"],
        key=row["key"],
        status=row["status"],
        order_id=order_id_in(row["body"]) if row["status"] < 300 else None,
    )
