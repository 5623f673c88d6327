"""A generation's table: views as rows, read and written a batch at a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection, sql
from psycopg.types.json import Jsonb

from month3_messaging.orders import Line, Status
from month3_messaging.readmodel.generations_postgres import table_of
from month3_messaging.readmodel.order_view import OrderView, Placing

COLUMNS = "order_id, user_id, lines, total_minor, currency, entered"
"""What `view_of` makes a view of."""

_SELECT = f"SELECT {COLUMNS} FROM {{table}} WHERE order_id = ANY (%s)"  # noqa: S608 - constant
_STORE = """
INSERT INTO {table} AS kept
    (order_id, user_id, lines, total_minor, currency, status, entered, updated_at)
SELECT * FROM unnest(%s::uuid[], %s::text[], %s::jsonb[], %s::bigint[], %s::text[], %s::text[],
                     %s::jsonb[], %s::timestamptz[])
ON CONFLICT (order_id) DO UPDATE
SET user_id = excluded.user_id, lines = excluded.lines, total_minor = excluded.total_minor,
    currency = excluded.currency, status = excluded.status, entered = excluded.entered,
    updated_at = excluded.updated_at
"""


async def load(
    conn: AsyncConnection[Any], number: int, order_ids: Collection[UUID]
) -> dict[UUID, OrderView]:
    """Those of these orders that generation `number` knows."""
    cursor = await conn.execute(
        sql.SQL(_SELECT).format(table=table_of(number)), (list(order_ids),), prepare=True
    )
    return {row[0]: view_of(row) for row in await cursor.fetchall()}


async def store(conn: AsyncConnection[Any], number: int, views: Collection[OrderView]) -> None:
    """Write these views into generation `number`. One statement, or none."""
    if not views:
        return
    rows = [_row(view) for view in views]
    await conn.execute(
        sql.SQL(_STORE).format(table=table_of(number)),
        [list(column) for column in zip(*rows, strict=True)],
        prepare=True,
    )


def view_of(row: Sequence[Any]) -> OrderView:
    """The view in a row of COLUMNS."""
    order_id, user_id, lines, total_minor, currency, entered = row
    placing = (
        None
        if user_id is None
        else Placing(user_id, tuple(Line(**line) for line in lines), total_minor, currency)
    )
    return OrderView(
        order_id,
        placing,
        tuple((Status(status), datetime.fromisoformat(at)) for status, at in entered),
    )


def _row(view: OrderView) -> tuple[object, ...]:
    placing = view.placing
    entered = Jsonb([[status.value, at.isoformat()] for status, at in view.entered])
    last = (view.status.value, entered, max(at for _, at in view.entered))
    if placing is None:
        return (view.order_id, None, None, None, None, *last)
    lines = Jsonb([asdict(line) for line in placing.lines])
    return (
        view.order_id,
        placing.user_id,
        lines,
        placing.total_minor,
        placing.currency,
        *last,
    )
