"""The outbox table: events leave with the transaction that made them true, or not at all.

Guarantees of `append`
    O1  The event is in the table if and only if the caller's transaction committed.
    O2  For one key, ids ascend in commit order. An id is drawn under a lock on the key that lasts
        until the end of the transaction, so no later id of that key can be visible while an
        earlier one is not.
    O3  Whoever listens on the channel is woken after the commit, never before.

Over different keys ids are *not* in commit order: sequences hand out numbers before commit. That is
why nobody may read this table by `id > last_seen`: a slow transaction would be skipped for ever.

A transaction that appends for several keys takes several locks: append in ascending key order, or
two such transactions can deadlock (PostgreSQL then aborts one; nothing is lost).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from month3_messaging.broker import Event, to_headers, to_value
from scalelab.errors import InvalidInput
from scalelab.telemetry import inject

CHANNEL = "outbox"
"""Name of the notification channel that wakes the relay."""

DDL = """
CREATE TABLE outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id   uuid        NOT NULL UNIQUE,
    topic      text        NOT NULL,
    key        text        NOT NULL,
    type       text        NOT NULL,
    headers    jsonb       NOT NULL,
    value      jsonb       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at    timestamptz
);
CREATE INDEX outbox_unsent ON outbox (id) WHERE sent_at IS NULL;
CREATE INDEX outbox_sent ON outbox (sent_at) WHERE sent_at IS NOT NULL;
"""
"""The table, for the migrations of a service that publishes events."""

_NUL_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

# The lock (2828: its class) stands in a materialised CTE that the INSERT reads from, so it is held
# before the row, and with it the identity value, comes into being. The notification rides along.
APPEND = """
WITH lane AS MATERIALIZED (SELECT pg_advisory_xact_lock(2828, hashtext(%(event_key)s)))
INSERT INTO outbox (event_id, topic, key, type, headers, value)
SELECT %(event_id)s, %(event_topic)s, %(event_key)s, %(event_type)s, %(event_headers)s,
       %(event_value)s::text::jsonb FROM lane
RETURNING pg_notify('outbox', '')
"""
"""What `append` executes, with the parameters of `to_append`.

It may stand as a data-modifying CTE in a statement of the caller, `WITH told AS (APPEND) …`, which
saves the round trip. One event a statement: the ids of two would be drawn in no certain order.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """An unsent event. id ascends in commit order within a key; value: JSON bytes."""

    id: int
    topic: str
    key: str
    headers: dict[str, str]
    value: bytes


async def append(conn: AsyncConnection[Any], event: Event, topic: str) -> None:
    """Add `event` to the caller's open transaction; its subject becomes the Kafka key.

    The current span's trace context travels along unless the event brings its own. Waits while
    another transaction that appended for the same key is open. Cost: one round trip.
    Raises InvalidInput if the event cannot be written as JSON (a NUL character included) or is
    too large to be sent; the transaction is still usable then. An event id that is already in the
    table is a mistake of the caller and fails the transaction.
    """
    await conn.execute(APPEND, to_append(event, topic), prepare=True)


def to_append(event: Event, topic: str) -> dict[str, Any]:
    """The parameters of APPEND, named `event_…`. Raises InvalidInput as `append` does."""
    value = to_value(event)
    if _NUL_ESCAPE.search(value):
        raise InvalidInput(f"data of {event.type} holds a NUL character", field="data")
    headers = to_headers(event)
    if event.traceparent is None:
        inject(headers)
    return {
        "event_id": event.id,
        "event_topic": topic,
        "event_key": event.subject,
        "event_type": event.type,
        "event_headers": Jsonb(headers),
        "event_value": value.decode(),
    }


async def read_unsent(conn: AsyncConnection[Any], limit: int) -> list[Row]:
    """The oldest unsent rows by id, at most `limit`: for each key a prefix of what is unsent."""
    cursor = await conn.execute(
        "SELECT id, topic, key, headers, value::text FROM outbox"
        " WHERE sent_at IS NULL ORDER BY id LIMIT %s",
        (limit,),
        prepare=True,
    )
    return [
        Row(row_id, topic, key, headers, cast("str", value).encode())
        for row_id, topic, key, headers, value in await cursor.fetchall()
    ]


async def mark_sent(conn: AsyncConnection[Any], ids: Sequence[int]) -> list[float]:
    """Mark rows as acknowledged by the broker, in one statement; returns their lags.

    A lag is the time in seconds from the start of the transaction that appended the row until
    now, on the database's clock. Rows that another relay marked before are left alone.
    """
    cursor = await conn.execute(
        "UPDATE outbox SET sent_at = clock_timestamp() WHERE id = ANY (%s) AND sent_at IS NULL"
        " RETURNING extract(epoch FROM clock_timestamp() - created_at)::float8",
        (list(ids),),
        prepare=True,
    )
    return [lag_s for (lag_s,) in await cursor.fetchall()]


async def look_up(conn: AsyncConnection[Any], ids: Sequence[int]) -> dict[int, bool]:
    """Of these rows, those that are committed and still here: id to whether it is marked."""
    if not ids:
        return {}
    cursor = await conn.execute(
        "SELECT id, sent_at IS NOT NULL FROM outbox WHERE id = ANY (%s)", (list(ids),), prepare=True
    )
    return dict(await cursor.fetchall())


async def is_left_behind(conn: AsyncConnection[Any], *, older_than_s: float) -> bool:
    """Whether a row has been waiting for longer than that."""
    cursor = await conn.execute(
        "SELECT EXISTS (SELECT FROM outbox WHERE sent_at IS NULL"
        " AND created_at < clock_timestamp() - make_interval(secs => %s))",
        (older_than_s,),
    )
    row = await cursor.fetchone()
    return bool(row and row[0])


async def count_unsent(conn: AsyncConnection[Any]) -> int:
    """How many rows wait. Cost: reads the partial index, so it grows with the backlog only."""
    cursor = await conn.execute("SELECT count(*) FROM outbox WHERE sent_at IS NULL", prepare=True)
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def purge_sent(conn: AsyncConnection[Any], *, older_than_s: float, limit: int = 1000) -> int:
    """Delete at most `limit` rows sent more than `older_than_s` seconds ago; returns how many.

    Unsent rows are never deleted, however old.
    """
    cursor = await conn.execute(
        "DELETE FROM outbox WHERE id = ANY (ARRAY(SELECT id FROM outbox"
        " WHERE sent_at < clock_timestamp() - make_interval(secs => %s)"
        " ORDER BY sent_at LIMIT %s))",
        (older_than_s, limit),
    )
    return cursor.rowcount
