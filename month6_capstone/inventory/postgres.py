"""Stock and holds in PostgreSQL.

Locks, always in this order, so that no two transactions wait for each other in a circle:
    1 the row of an existing hold      2 stock rows by ascending product_id      3 a new hold's row

A new hold is one statement, one round trip: it locks the stock rows in order, judges, inserts and
moves, or changes nothing. On a wanted product the row is locked for one commit only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from month3_messaging.broker import Event
from month3_messaging.inbox import FIRST_TIME
from month3_messaging.outbox import APPEND, to_append
from month6_capstone.inventory.stock import SHIFTS, Hold, HoldState, Level, Line, Move, in_order
from scalelab.clients.postgres_errors import SerializationFailure

Connection = AsyncConnection[Any]

_TAKE = """
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest(%(products)s::text[], %(quantities)s::bigint[]) AS w (product_id, quantity)
), locked AS MATERIALIZED (
    SELECT s.product_id, s.available FROM stock s JOIN wanted USING (product_id)
     ORDER BY s.product_id FOR NO KEY UPDATE OF s
), judged AS MATERIALIZED (
    SELECT product_id, available IS NOT NULL AS known,
           coalesce(available >= quantity, false) AS enough
      FROM wanted LEFT JOIN locked USING (product_id)
), made AS (
    INSERT INTO hold (hold_id, user_id, state, expires_at, created_at, updated_at)
    SELECT %(hold_id)s, %(user_id)s, 'held', %(expires_at)s, %(now)s, %(now)s
     WHERE (SELECT bool_and(enough) FROM judged)
    ON CONFLICT (hold_id) DO NOTHING RETURNING hold_id
), lines AS (
    INSERT INTO hold_line (hold_id, product_id, quantity)
    SELECT hold_id, product_id, quantity FROM made, wanted
), moved AS (
    UPDATE stock s SET available = s.available - w.quantity, held = s.held + w.quantity
      FROM made, wanted w WHERE s.product_id = w.product_id
)
SELECT EXISTS (SELECT FROM made),
       ARRAY(SELECT product_id FROM judged WHERE NOT known ORDER BY 1),
       ARRAY(SELECT product_id FROM judged WHERE known AND NOT enough ORDER BY 1)
"""

_MOVED = """
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest(%(products)s::text[], %(quantities)s::bigint[]) AS w (product_id, quantity)
), locked AS MATERIALIZED (
    SELECT s.product_id FROM stock s JOIN wanted USING (product_id)
     ORDER BY s.product_id FOR NO KEY UPDATE OF s
), moved AS (
UPDATE stock s SET available = s.available + %(available)s * w.quantity,
                   held      = s.held      + %(held)s      * w.quantity,
                   reserved  = s.reserved  + %(reserved)s  * w.quantity
  FROM wanted w JOIN locked USING (product_id) WHERE s.product_id = w.product_id
"""
_MOVE = f"{_MOVED}) SELECT"

_EXPIRE = """
WITH due AS MATERIALIZED (
    SELECT hold_id FROM hold WHERE state = 'held' AND expires_at <= %(now)s
     ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), freed AS MATERIALIZED (
    SELECT product_id, sum(quantity)::bigint AS quantity
      FROM hold_line JOIN due USING (hold_id) GROUP BY product_id
), locked AS MATERIALIZED (
    SELECT s.product_id FROM stock s JOIN freed USING (product_id)
     ORDER BY s.product_id FOR NO KEY UPDATE OF s
), moved AS (
    UPDATE stock s SET available = s.available + f.quantity, held = s.held - f.quantity
      FROM freed f JOIN locked USING (product_id) WHERE s.product_id = f.product_id
)
UPDATE hold h SET state = 'expired', updated_at = %(now)s
  FROM due WHERE h.hold_id = due.hold_id
"""

_ADD_HOLD = """
INSERT INTO hold (hold_id, user_id, order_id, state, expires_at, created_at, updated_at)
VALUES (%(hold_id)s, %(user_id)s, %(order_id)s, %(state)s, %(expires_at)s, %(now)s, %(now)s)
ON CONFLICT (hold_id) DO NOTHING
"""

_CHANGE_HOLD = """
UPDATE hold SET order_id = %(order_id)s, state = %(state)s, expires_at = %(expires_at)s,
                updated_at = %(now)s
 WHERE hold_id = %(hold_id)s
"""

_LOCK_HOLD = """
SELECT state, expires_at, order_id,
       ARRAY(SELECT product_id FROM hold_line WHERE hold_id = %(hold_id)s ORDER BY product_id),
       ARRAY(SELECT quantity   FROM hold_line WHERE hold_id = %(hold_id)s ORDER BY product_id)
  FROM hold WHERE hold_id = %(hold_id)s FOR UPDATE
"""

_LOCK_HOLD_FIRST_TIME = f"""
WITH received AS ({FIRST_TIME}
), locked AS MATERIALIZED ({_LOCK_HOLD})
SELECT EXISTS (SELECT FROM received), locked.* FROM (SELECT) AS always LEFT JOIN locked ON true
"""  # noqa: S608 - constants

_SETTLE = f"""
{_MOVED}), kept AS ({_CHANGE_HOLD}), told AS ({APPEND})
SELECT
"""

_SAVE_LINES = """
INSERT INTO hold_line (hold_id, product_id, quantity)
SELECT %(hold_id)s, w.product_id, w.quantity
  FROM unnest(%(products)s::text[], %(quantities)s::bigint[]) AS w (product_id, quantity)
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """The verdict on a new hold: made, or why not. Both lists empty and not made: id is known."""

    made: bool
    unknown: tuple[str, ...]
    short: tuple[str, ...]


async def take(
    conn: Connection,
    hold_id: UUID,
    user_id: str,
    lines: Sequence[Line],
    *,
    now: datetime,
    expires_at: datetime,
) -> Taken:
    """Make a new hold of all `lines`, or nothing. One round trip; also fine on autocommit.

    A hold id that exists is left as it is (`made` False). Concurrent holds on one product queue
    on its row; none is made that the stock does not cover.
    """
    cursor = await conn.execute(
        _TAKE,
        {
            "hold_id": hold_id,
            "user_id": user_id,
            "expires_at": expires_at,
            "now": now,
            **_arrays(lines),
        },
        prepare=True,
    )
    row = await cursor.fetchone()
    if row is None:
        raise AssertionError("a SELECT without FROM returned no row")
    made, unknown, short = row
    return Taken(made, tuple(unknown), tuple(short))


async def lock_hold(conn: Connection, hold_id: UUID) -> Hold | None:
    """The hold with its lines; its row stays locked until the transaction ends."""
    cursor = await conn.execute(_LOCK_HOLD, {"hold_id": hold_id}, prepare=True)
    return await _hold(conn, hold_id, await cursor.fetchone())


async def lock_hold_first_time(
    conn: Connection, hold_id: UUID, *, consumer: str, event_id: UUID
) -> tuple[bool, Hold | None]:
    """Whether `consumer` meets the event for the first time (see the inbox), and `lock_hold`."""
    cursor = await conn.execute(
        _LOCK_HOLD_FIRST_TIME,
        {"hold_id": hold_id, "consumer": consumer, "received_id": event_id},
        prepare=True,
    )
    row = await cursor.fetchone()
    if row is None:
        raise AssertionError("an outer join of one row returned none")
    return row[0], await _hold(conn, hold_id, None if row[1] is None else row[1:])


async def lock_levels(conn: Connection, product_ids: Sequence[str]) -> dict[str, Level]:
    """Stock rows by product id, locked in ascending order until the transaction ends."""
    cursor = await conn.execute(
        "SELECT product_id, initial, available, held, reserved FROM stock"
        " WHERE product_id = ANY (%s) ORDER BY product_id FOR NO KEY UPDATE",
        (list(product_ids),),
        prepare=True,
    )
    return {row[0]: Level(*row) for row in await cursor.fetchall()}


async def move(conn: Connection, what: Move, lines: Sequence[Line]) -> None:
    """Shift the pieces of `lines` as `what` says. The table's CHECKs refuse any overdraft."""
    if what is not Move.NOTHING and lines:
        await conn.execute(_MOVE, _shift(what, lines), prepare=True)


async def settle(
    conn: Connection,
    hold: Hold,
    what: Move,
    lines: Sequence[Line],
    *,
    now: datetime,
    answer: Event,
    topic: str,
) -> None:
    """`move`, `change_hold` without lines, and the answer into the outbox: one statement."""
    shift = _shift(what, () if what is Move.NOTHING else lines)
    told = to_append(answer, topic)
    await conn.execute(_SETTLE, {**shift, **_fields(hold, now), **told}, prepare=True)


async def add_hold(conn: Connection, hold: Hold, *, user_id: str, now: datetime) -> None:
    """Insert a hold that `lock_hold` did not find.

    Raises SerializationFailure if somebody made it meanwhile: the stock that it took is not in
    this transaction's decision, so the decision must be made again.
    """
    cursor = await conn.execute(_ADD_HOLD, {**_fields(hold, now), "user_id": user_id}, prepare=True)
    if cursor.rowcount != 1:
        raise SerializationFailure(f"hold {hold.hold_id} was made meanwhile")
    await add_lines(conn, hold)


async def change_hold(conn: Connection, hold: Hold, *, now: datetime) -> None:
    """Write the new state of a hold that this transaction has locked."""
    await conn.execute(_CHANGE_HOLD, _fields(hold, now), prepare=True)
    await add_lines(conn, hold)


async def expire(conn: Connection, *, now: datetime, limit: int) -> int:
    """End at most `limit` holds that are due and free their stock; returns how many.

    One statement. Rows that others work on are skipped, so several sweepers may run.
    """
    cursor = await conn.execute(_EXPIRE, {"now": now, "limit": limit}, prepare=True)
    return cursor.rowcount


async def set_initial(conn: Connection, product_id: str, initial: int) -> Level:
    """Set how many pieces of a product there are in all; what is held or reserved stays so.

    Fails on the table's CHECK if more is out than `initial`.
    """
    cursor = await conn.execute(
        "INSERT INTO stock AS s (product_id, initial, available) VALUES (%s, %s, %s)"
        " ON CONFLICT (product_id) DO UPDATE SET initial = EXCLUDED.initial,"
        " available = EXCLUDED.initial - s.held - s.reserved"
        " RETURNING product_id, initial, available, held, reserved",
        (product_id, initial, initial),
        prepare=True,
    )
    row = await cursor.fetchone()
    if row is None:
        raise AssertionError("an upsert that returns its row returned none")
    return Level(*row)


async def find_level(conn: Connection, product_id: str) -> Level | None:
    """One product's pieces, as last committed."""
    cursor = await conn.execute(
        "SELECT product_id, initial, available, held, reserved FROM stock WHERE product_id = %s",
        (product_id,),
        prepare=True,
    )
    row = await cursor.fetchone()
    return None if row is None else Level(*row)


async def add_lines(conn: Connection, hold: Hold) -> None:
    """Write the lines of a hold that had none; lines that are there stay."""
    if hold.lines:
        await conn.execute(
            _SAVE_LINES, {"hold_id": hold.hold_id, **_arrays(hold.lines)}, prepare=True
        )


async def _hold(conn: Connection, hold_id: UUID, row: Sequence[Any] | None) -> Hold | None:
    if row is None:
        return None
    state, expires_at, order_id, products, quantities = row
    lines = tuple(map(Line, products, quantities))
    if not lines and state in (HoldState.HELD, HoldState.RESERVED):
        # Its first lines were committed while the statement waited for the row: too late for its
        # snapshot. Lines are written once, so a second look is the last.
        cursor = await conn.execute(
            "SELECT product_id, quantity FROM hold_line WHERE hold_id = %s", (hold_id,)
        )
        lines = tuple(Line(product_id, number) for product_id, number in await cursor.fetchall())
    return Hold(hold_id, HoldState(state), in_order(lines), expires_at, order_id)


def _shift(what: Move, lines: Sequence[Line]) -> dict[str, Any]:
    shift = SHIFTS[what]
    return {
        "available": shift.available,
        "held": shift.held,
        "reserved": shift.reserved,
        **_arrays(lines),
    }


def _fields(hold: Hold, now: datetime) -> dict[str, Any]:
    return {
        "hold_id": hold.hold_id,
        "order_id": hold.order_id,
        "state": hold.state.value,
        "expires_at": hold.expires_at,
        "now": now,
    }


def _arrays(lines: Sequence[Line]) -> dict[str, Any]:
    ordered = in_order(lines)
    return {
        "products": [line.product_id for line in ordered],
        "quantities": [line.quantity for line in ordered],
    }
