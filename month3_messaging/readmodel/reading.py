"""The read side's questions. Each is one statement, for a connection in autocommit mode.

Everything here lags behind the orders themselves by the relay and a fold; who must see what was
just written asks the orders' own API. All raise Unavailable `read_model_not_built` before the
first generation is live: no answer is better than an empty one.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg import errors as sql_errors

from month3_messaging.orders import Status
from month3_messaging.readmodel.order_view import OrderView
from month3_messaging.readmodel.views_postgres import COLUMNS, view_of
from scalelab.errors import Unavailable


async def find(conn: AsyncConnection[Any], order_id: UUID) -> OrderView | None:
    """One order with its history."""
    with _built():
        cursor = await conn.execute(
            f"SELECT {COLUMNS} FROM order_view WHERE order_id = %s",  # noqa: S608 - constant
            (order_id,),
        )
    row = await cursor.fetchone()
    return None if row is None else view_of(row)


async def list_of_user(
    conn: AsyncConnection[Any], user_id: str, *, before: UUID | None = None, limit: int = 20
) -> list[OrderView]:
    """At most `limit` orders of the user, newest first, older than the order `before` if given."""
    with _built():
        cursor = await conn.execute(
            f"SELECT {COLUMNS} FROM order_view WHERE user_id = %s"  # noqa: S608 - constant
            " AND (%s::uuid IS NULL OR order_id < %s::uuid) ORDER BY order_id DESC LIMIT %s",
            (user_id, before, before, limit),
        )
    return [view_of(row) for row in await cursor.fetchall()]


async def count_by_status(conn: AsyncConnection[Any]) -> dict[Status, int]:
    """How many orders are in each status, over all users and, where there are some, all shards."""
    with _built():
        cursor = await conn.execute("SELECT status, count(*) FROM order_view GROUP BY status")
    return {Status(status): number for status, number in await cursor.fetchall()}


@contextmanager
def _built() -> Generator[None, None, None]:
    try:
        yield
    except sql_errors.UndefinedTable as error:
        raise Unavailable(
            "the order view is being built for the first time", code="read_model_not_built"
        ) from error
