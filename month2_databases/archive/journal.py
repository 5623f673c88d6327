"""The journal of files in PostgreSQL, and the hot rows beside it: statements, no decisions.

    planned   the file's bounds are chosen: a month, a first and a last id
    stored    its manifest is written down; the object is in the store
    cold      its rows are gone from `orders`; from this commit on the file answers for them

All functions take a connection of the caller's transaction; rows come and go in order of their ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, LiteralString
from uuid import UUID

from psycopg import AsyncConnection, sql

from month2_databases.archive.lifecycle import Placement, Restore, Tier
from month2_databases.archive.manifest import Manifest, from_json, to_json
from month2_databases.archive.temperature import (
    END_STATES,
    OrderRow,
    months_after,
    start_of,
)

_SCHEMA = Path(__file__).with_name("schema.sql")
State = Literal["planned", "stored", "cold"]
_COLUMNS = sql.SQL("order_id, user_id, country, amount_cents, state, placed_at")
_IN_BATCH = sql.SQL(
    "placed_at >= %(begin)s AND placed_at < %(end)s"
    " AND order_id BETWEEN %(first)s AND %(last)s AND state = ANY(%(ended)s)"
)


@dataclass(frozen=True, slots=True)
class Batch:
    """One file of the journal. manifest: from `stored` on."""

    batch_id: int
    month: date
    first_id: UUID
    last_id: UUID
    state: State
    manifest: Manifest | None
    placement: Placement


def schema() -> str:
    """The statements that make both tables; repeatable."""
    return _SCHEMA.read_text(encoding="utf-8")


async def insert_orders(conn: AsyncConnection, rows: Sequence[OrderRow]) -> None:
    """Add hot orders."""
    async with (
        conn.cursor() as cursor,
        cursor.copy(
            "COPY orders (order_id, user_id, country, amount_cents, state, placed_at) FROM STDIN"
        ) as copy,
    ):
        for row in rows:
            await copy.write_row(
                (
                    row.order_id,
                    row.user_id,
                    row.country,
                    row.amount_cents,
                    row.state,
                    row.placed_at,
                )
            )


async def plan(conn: AsyncConnection, *, before: date, rows: int) -> bool:
    """Choose the bounds of the next file among the ended orders placed before a month.

    False if there are none. At most `rows` of one month; the oldest month first.
    """
    found = await conn.execute(
        "WITH oldest AS (SELECT min(placed_at) AS at FROM orders"
        " WHERE placed_at < %(before)s AND state = ANY(%(ended)s)),"
        " month AS (SELECT date_trunc('month', at AT TIME ZONE 'UTC') AS begin FROM oldest"
        " WHERE at IS NOT NULL),"
        " chosen AS (SELECT order_id, begin FROM orders, month"
        " WHERE placed_at >= begin AT TIME ZONE 'UTC'"
        " AND placed_at < (begin + interval '1 month') AT TIME ZONE 'UTC'"
        " AND state = ANY(%(ended)s) ORDER BY order_id LIMIT %(rows)s)"
        " INSERT INTO archive_batch (month, first_id, last_id)"
        " SELECT begin::date, (array_agg(order_id ORDER BY order_id))[1],"
        " (array_agg(order_id ORDER BY order_id DESC))[1] FROM chosen GROUP BY begin",
        {"before": start_of(before), "ended": list(END_STATES), "rows": rows},
    )
    return found.rowcount == 1


async def lock_planning(conn: AsyncConnection) -> None:
    """Until the end of this transaction nobody else plans."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtext('archive_batch'))")


async def unfinished(conn: AsyncConnection) -> list[Batch]:
    """Files that are not cold yet, the oldest first."""
    return await _batches(conn, "WHERE state <> 'cold' ORDER BY batch_id")


async def cold_batches(
    conn: AsyncConnection, first: date | None = None, last: date | None = None
) -> list[Batch]:
    """Files that answer for their rows, of a span of months, inclusive."""
    where = (
        "WHERE state = 'cold' AND month >= coalesce(%s, month) AND month <= coalesce(%s, month)"
        " ORDER BY batch_id"
    )
    return await _batches(conn, where, (first, last))


async def batch_of(conn: AsyncConnection, batch_id: int, *, lock: bool = False) -> Batch | None:
    """One file; with `lock`, nobody else changes its row until this transaction ends."""
    where = "WHERE batch_id = %s FOR UPDATE" if lock else "WHERE batch_id = %s"
    found = await _batches(conn, where, (batch_id,))
    return found[0] if found else None


async def read_rows(conn: AsyncConnection, batch: Batch) -> list[OrderRow]:
    """The hot rows within a file's bounds that have ended, by id."""
    cursor = await conn.execute(
        sql.SQL("SELECT {} FROM orders WHERE {} ORDER BY order_id").format(_COLUMNS, _IN_BATCH),
        _bounds(batch),
    )
    return [_row(one) for one in await cursor.fetchall()]


async def delete_rows(conn: AsyncConnection, batch: Batch) -> int:
    """Delete the rows that `read_rows` finds in the same snapshot; how many."""
    statement = sql.SQL("DELETE FROM orders WHERE {}").format(_IN_BATCH)
    return (await conn.execute(statement, _bounds(batch))).rowcount


async def hot_rows(
    conn: AsyncConnection, first: date | None, last: date | None, *, most: int
) -> list[OrderRow]:
    """Hot rows placed in a span of months, inclusive; one more than `most` if there are more."""
    end = months_after(last, 1) if last else None
    cursor = await conn.execute(
        sql.SQL(
            "SELECT {} FROM orders WHERE placed_at >= coalesce(%s, '-infinity'::timestamptz)"
            " AND placed_at < coalesce(%s, 'infinity'::timestamptz) LIMIT %s"
        ).format(_COLUMNS),
        (start_of(first) if first else None, start_of(end) if end else None, most + 1),
    )
    return [_row(one) for one in await cursor.fetchall()]


async def write_stored(conn: AsyncConnection, batch_id: int, manifest: Manifest) -> None:
    """planned → stored; nothing if somebody else was quicker."""
    await conn.execute(
        "UPDATE archive_batch SET state = 'stored', manifest = %s"
        " WHERE batch_id = %s AND state = 'planned'",
        (to_json(manifest), batch_id),
    )


async def write_planned(conn: AsyncConnection, batch_id: int) -> None:
    """stored → planned: the file must be made again."""
    await conn.execute(
        "UPDATE archive_batch SET state = 'planned', manifest = NULL"
        " WHERE batch_id = %s AND state = 'stored'",
        (batch_id,),
    )


async def write_cold(conn: AsyncConnection, batch_id: int) -> None:
    """stored → cold, in the transaction that deletes the rows."""
    await conn.execute(
        "UPDATE archive_batch SET state = 'cold' WHERE batch_id = %s AND state = 'stored'",
        (batch_id,),
    )


async def forget(conn: AsyncConnection, batch_id: int) -> None:
    """Remove a planned file that turned out to have no rows."""
    await conn.execute(
        "DELETE FROM archive_batch WHERE batch_id = %s AND state = 'planned'", (batch_id,)
    )


async def write_placement(conn: AsyncConnection, batch_id: int, placement: Placement) -> None:
    """Where a cold file stands now."""
    restore = placement.restore
    await conn.execute(
        "UPDATE archive_batch SET tier = %s, restore_ready = %s, restore_until = %s,"
        " restore_done = %s WHERE batch_id = %s",
        (
            placement.tier.value,
            restore.ready_at if restore else None,
            restore.until if restore else None,
            restore.is_done if restore else False,
            batch_id,
        ),
    )


def _bounds(batch: Batch) -> dict[str, Any]:
    return {
        "begin": start_of(batch.month),
        "end": start_of(months_after(batch.month, 1)),
        "first": batch.first_id,
        "last": batch.last_id,
        "ended": list(END_STATES),
    }


async def _batches(
    conn: AsyncConnection, where: LiteralString, parameters: Sequence[object] = ()
) -> list[Batch]:
    cursor = await conn.execute(
        sql.SQL(
            "SELECT batch_id, month, first_id, last_id, state, manifest, tier, restore_ready,"
            " restore_until, restore_done FROM archive_batch {}"
        ).format(sql.SQL(where)),
        parameters,
    )
    return [_batch(one) for one in await cursor.fetchall()]


def _batch(found: tuple[Any, ...]) -> Batch:
    batch_id, month, first_id, last_id, state, manifest, tier, ready, until, done = found
    restore = Restore(_utc(ready), _utc(until), done) if ready is not None else None
    return Batch(
        batch_id=batch_id,
        month=month,
        first_id=first_id,
        last_id=last_id,
        state=state,
        manifest=from_json(manifest) if manifest is not None else None,
        placement=Placement(Tier(tier), start_of(months_after(month, 1)), restore),
    )


def _row(found: tuple[Any, ...]) -> OrderRow:
    order_id, user_id, country, amount_cents, state, placed_at = found
    return OrderRow(order_id, user_id, country, amount_cents, state, _utc(placed_at))


def _utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC)
