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

from month3_messaging.broker import Event
from month3_messaging.inbox import FIRST_TIME
from month3_messaging.orders.models import ORDERS_TOPIC, Line, Order, Progress, StatusChange
from month3_messaging.orders.saga import Status
from month3_messaging.outbox import APPEND, to_append
from scalelab.saga import SagaState
from scalelab.web.idempotency import Scope, StoredAnswer
from scalelab.web.idempotency_postgres import SAVE, one_answer, to_save

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

_INSERT = f"""
WITH placed AS (
    INSERT INTO orders (order_id, user_id, status, version, lines, total_minor, currency, hold_id,
                        placed_at, updated_at)
    VALUES (%(order_id)s, %(user_id)s, %(status)s, %(version)s, %(lines)s, %(total_minor)s,
            %(currency)s, %(hold_id)s, %(placed_at)s, %(placed_at)s)
), begun AS (
    INSERT INTO saga (order_id, state, deadline_at)
    VALUES (%(order_id)s, %(state)s, %(deadline_at)s)
), told AS ({APPEND}
), answered AS ({SAVE}
)
INSERT INTO order_history (order_id, version, status, event_id, at)
VALUES (%(order_id)s, %(version)s, %(status)s, %(event_id)s, %(placed_at)s)
"""  # noqa: S608 - constants

_LOCK = f"SELECT {_COLUMNS}, state FROM orders JOIN saga USING (order_id)"  # noqa: S608 - constant

_LOCK_FIRST_TIME = f"""
WITH received AS ({FIRST_TIME})
SELECT {_COLUMNS}, state, EXISTS (SELECT FROM received)
FROM orders JOIN saga USING (order_id) WHERE order_id = %(order_id)s FOR UPDATE OF orders, saga
"""  # noqa: S608 - constants

_ADVANCE = """
WITH moved AS (
    UPDATE orders SET status = %(status)s, version = %(version)s, updated_at = %(at)s
    WHERE order_id = %(order_id)s AND version < %(version)s
), written AS (
    INSERT INTO order_history (order_id, version, status, event_id, at)
    SELECT %(order_id)s, version, status, %(cause)s, %(at)s
    FROM unnest(%(versions)s::int[], %(statuses)s::text[]) AS entered (version, status)
), kept AS (
    UPDATE saga SET state = %(state)s, deadline_at = %(deadline_at)s, ended_at = %(ended_at)s
    WHERE order_id = %(order_id)s
)
"""
_NOTIFY = "SELECT pg_notify('order_status', notice) FROM unnest(%(notices)s::text[]) AS n (notice)"
_ADVANCE_SILENTLY = _ADVANCE + _NOTIFY
_ADVANCE_AND_TELL = f"{_ADVANCE}, told AS ({APPEND}) {_NOTIFY}"


async def insert(
    conn: AsyncConnection[Any],
    order: Order,
    state: SagaState,
    placed: Event,
    *,
    deadline_at: datetime | None,
    answered: tuple[Scope, bytes, StoredAnswer],
) -> None:
    """Write a new order: row, history, saga, event, and the answer under its key.

    answered: scope, fingerprint and answer. Raises Conflict (idempotency_in_flight) if another
    transaction has just answered under that key.
    """
    with one_answer():
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
                **to_append(placed, ORDERS_TOPIC),
                **to_save(*answered, order.placed_at),
            },
            prepare=True,
        )


async def lock(conn: AsyncConnection[Any], order_id: UUID) -> tuple[Order, SagaState] | None:
    """The order and its saga, both locked until the transaction ends; None if there is none."""
    cursor = await conn.execute(
        f"{_LOCK} WHERE order_id = %s FOR UPDATE OF orders, saga", (order_id,), prepare=True
    )
    row = await cursor.fetchone()
    return None if row is None else (_order(row[:-1]), SagaState.from_json(row[-1]))


async def lock_first_time(
    conn: AsyncConnection[Any], order_id: UUID, *, consumer: str, event_id: UUID
) -> tuple[Order, SagaState, bool] | None:
    """`lock`, and whether `consumer` meets this event for the first time (see the inbox)."""
    cursor = await conn.execute(
        _LOCK_FIRST_TIME,
        {"order_id": order_id, "consumer": consumer, "received_id": event_id},
        prepare=True,
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    return _order(row[:-2]), SagaState.from_json(row[-2]), row[-1]


async def advance(
    conn: AsyncConnection[Any],
    order: Order,
    changes: Sequence[StatusChange],
    state: SagaState,
    *,
    cause: UUID,
    deadline_at: datetime | None,
    ended_at: datetime | None,
    announced: Event | None,
) -> None:
    """Give a locked order its next statuses and its saga's state; append what is announced.

    order: as locked. changes: in order, or none. cause: id of the event that made them. Watchers
    are notified of each change, and of an end without one.
    """
    now = changes or [StatusChange(order.version, order.status, order.updated_at)]
    seen = now if changes or ended_at is not None else []
    await conn.execute(
        _ADVANCE_SILENTLY if announced is None else _ADVANCE_AND_TELL,
        {
            "order_id": order.order_id,
            "status": now[-1].status.value,
            "version": now[-1].version,
            "at": now[-1].at,
            "cause": cause,
            "versions": [change.version for change in changes],
            "statuses": [change.status.value for change in changes],
            "notices": [_notice(order.order_id, change) for change in seen],
            "state": Jsonb(state.to_json()),
            "deadline_at": deadline_at,
            "ended_at": ended_at,
            **({} if announced is None else to_append(announced, ORDERS_TOPIC)),
        },
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
