"""The rows of an order: the only file that knows their columns.

Every function works on the caller's connection and transaction and is one round trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from month3_messaging.orders.models import Line, Order, Progress, StatusChange
from month3_messaging.orders.saga import Status
from scalelab.saga import SagaState

MIGRATIONS = Path(__file__).parent / "migrations"
"""Where Alembic finds the revisions of a database of orders."""

STATUS_CHANNEL = "order_status"
"""Notifications of status changes; payload: `<order id> <version> <status> <RFC 3339 instant>`."""

DDL = """
CREATE TABLE orders (
    order_id    uuid        PRIMARY KEY,
    user_id     text        NOT NULL,
    status      text        NOT NULL CHECK (status IN ('pending', 'paid', 'stock_reserved',
                            'confirmed', 'payment_failed', 'cancelled', 'refunded')),
    version     integer     NOT NULL CHECK (version >= 1),
    lines       jsonb       NOT NULL,
    total_minor bigint      NOT NULL CHECK (total_minor > 0),
    currency    text        NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    hold_id     uuid        NOT NULL,
    placed_at   timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL
);
CREATE INDEX orders_by_user ON orders (user_id, order_id DESC);
CREATE TABLE order_history (
    order_id uuid        NOT NULL,
    version  integer     NOT NULL,
    status   text        NOT NULL,
    event_id uuid        NOT NULL,
    at       timestamptz NOT NULL,
    PRIMARY KEY (order_id, version)
);
CREATE TABLE saga (
    order_id    uuid        PRIMARY KEY,
    state       jsonb       NOT NULL,
    deadline_at timestamptz,
    ended_at    timestamptz
);
CREATE INDEX saga_deadlines ON saga (deadline_at) WHERE deadline_at IS NOT NULL;
CREATE INDEX saga_open ON saga (order_id) WHERE ended_at IS NULL;
"""
"""The tables, for the migrations of a service that owns orders."""

_COLUMNS = (
    "order_id, user_id, status, version, lines, total_minor, currency, hold_id,"
    " placed_at, updated_at"
)

_INSERT = """
WITH placed AS (
    INSERT INTO orders (order_id, user_id, status, version, lines, total_minor, currency, hold_id,
                        placed_at, updated_at)
    VALUES (%(order_id)s, %(user_id)s, %(status)s, %(version)s, %(lines)s, %(total_minor)s,
            %(currency)s, %(hold_id)s, %(placed_at)s, %(placed_at)s)
), begun AS (
    INSERT INTO saga (order_id, state, deadline_at)
    VALUES (%(order_id)s, %(state)s, %(deadline_at)s)
)
INSERT INTO order_history (order_id, version, status, event_id, at)
VALUES (%(order_id)s, %(version)s, %(status)s, %(event_id)s, %(placed_at)s)
"""

_MOVE = """
WITH moved AS (
    UPDATE orders SET status = %(status)s, version = %(version)s, updated_at = %(at)s
    WHERE order_id = %(order_id)s
), written AS (
    INSERT INTO order_history (order_id, version, status, event_id, at)
    VALUES (%(order_id)s, %(version)s, %(status)s, %(event_id)s, %(at)s)
)
SELECT pg_notify('order_status', %(notice)s)
"""


async def insert(
    conn: AsyncConnection[Any],
    order: Order,
    state: SagaState,
    *,
    deadline_at: datetime | None,
    event_id: UUID,
) -> None:
    """Write a new order with the first row of its history and its saga."""
    await conn.execute(
        _INSERT,
        {
            "order_id": order.order_id,
            "user_id": order.user_id,
            "status": order.status.value,
            "version": order.version,
            "lines": Jsonb([asdict(line) for line in order.lines]),
            "total_minor": order.total_minor,
            "currency": order.currency,
            "hold_id": order.hold_id,
            "placed_at": order.placed_at,
            "state": Jsonb(state.to_json()),
            "deadline_at": deadline_at,
            "event_id": event_id,
        },
        prepare=True,
    )


async def lock(conn: AsyncConnection[Any], order_id: UUID) -> tuple[Order, SagaState] | None:
    """The order and its saga, both locked until the transaction ends; None if there is none."""
    cursor = await conn.execute(
        f"SELECT {_COLUMNS}, state FROM orders JOIN saga USING (order_id)"  # noqa: S608 - constant
        " WHERE order_id = %s FOR UPDATE",
        (order_id,),
        prepare=True,
    )
    row = await cursor.fetchone()
    return None if row is None else (_order(row[:-1]), SagaState.from_json(row[-1]))


async def enter(
    conn: AsyncConnection[Any],
    order_id: UUID,
    change: StatusChange,
    *,
    event_id: UUID,
) -> None:
    """Give a locked order its next status, write the history and notify the watchers."""
    await conn.execute(
        _MOVE,
        {
            "order_id": order_id,
            "status": change.status.value,
            "version": change.version,
            "event_id": event_id,
            "at": change.at,
            "notice": _notice(order_id, change),
        },
        prepare=True,
    )


async def notify(conn: AsyncConnection[Any], order_id: UUID, change: StatusChange) -> None:
    """Tell the watchers to look at an order that stays in its status: its saga has ended."""
    await conn.execute(
        "SELECT pg_notify('order_status', %s)", (_notice(order_id, change),), prepare=True
    )


async def store_saga(
    conn: AsyncConnection[Any],
    order_id: UUID,
    state: SagaState,
    *,
    deadline_at: datetime | None,
    ended_at: datetime | None,
) -> None:
    """Replace the saga's state."""
    await conn.execute(
        "UPDATE saga SET state = %s, deadline_at = %s, ended_at = %s WHERE order_id = %s",
        (Jsonb(state.to_json()), deadline_at, ended_at, order_id),
        prepare=True,
    )


async def find(conn: AsyncConnection[Any], order_id: UUID) -> Order | None:
    """The order, as this connection sees it now."""
    cursor = await conn.execute(
        f"SELECT {_COLUMNS} FROM orders WHERE order_id = %s",  # noqa: S608 - constant
        (order_id,),
        prepare=True,
    )
    row = await cursor.fetchone()
    return None if row is None else _order(row)


async def list_of_user(
    conn: AsyncConnection[Any], user_id: str, *, before: UUID | None, limit: int
) -> list[Order]:
    """At most `limit` orders of the user, newest first, older than the order `before` if given."""
    cursor = await conn.execute(
        f"SELECT {_COLUMNS} FROM orders WHERE user_id = %s"  # noqa: S608 - constant
        " AND (%s::uuid IS NULL OR order_id < %s::uuid) ORDER BY order_id DESC LIMIT %s",
        (user_id, before, before, limit),
        prepare=True,
    )
    return [_order(row) for row in await cursor.fetchall()]


async def progress_after(conn: AsyncConnection[Any], order_id: UUID, version: int) -> Progress:
    """The changes after `version` (0: all), and whether the saga has ended; one snapshot."""
    cursor = await conn.execute(
        "SELECT ended_at IS NOT NULL, version, h.status, at FROM saga"
        " LEFT JOIN order_history h ON h.order_id = saga.order_id AND h.version > %s"
        " WHERE saga.order_id = %s ORDER BY version",
        (version, order_id),
        prepare=True,
    )
    rows = await cursor.fetchall()
    changes = [StatusChange(at, Status(s), when) for _, at, s, when in rows if at is not None]
    return Progress(changes, ended=bool(rows and rows[0][0]))


async def overdue(conn: AsyncConnection[Any], now: datetime, *, limit: int) -> list[UUID]:
    """Orders whose saga's deadline has passed, the longest overdue first."""
    cursor = await conn.execute(
        "SELECT order_id FROM saga WHERE deadline_at <= %s ORDER BY deadline_at LIMIT %s",
        (now, limit),
        prepare=True,
    )
    return [order_id for (order_id,) in await cursor.fetchall()]


def _notice(order_id: UUID, change: StatusChange) -> str:
    return f"{order_id} {change.version} {change.status.value} {change.at.isoformat()}"


def _order(row: Sequence[Any]) -> Order:
    order_id, user_id, status, version, lines, total_minor, currency, hold_id, placed, updated = row
    return Order(
        order_id=order_id,
        user_id=user_id,
        status=Status(status),
        version=version,
        lines=tuple(Line(**line) for line in lines),
        total_minor=total_minor,
        currency=currency,
        hold_id=hold_id,
        placed_at=placed,
        updated_at=updated,
    )
