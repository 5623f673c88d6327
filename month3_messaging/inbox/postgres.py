"""Inbox: remembers, in the transaction of the effect, which events took effect.

Guarantee
    An effect guarded by `first_time` in its own transaction happens once per (consumer, event id),
    whatever the broker redelivers and however many consumers hold the event at the same moment.
    `first_times` guards the effects of many events that share a transaction, by one statement.

Why it holds
    The row and the effect commit together or not at all. A second transaction that inserts the
    same pair waits for the first (the unique index makes it) and then sees the outcome: committed
    means False here, rolled back means True here. A consumer that was frozen, lost its partition
    and woke up again runs into the same row. No lock service and no broker epoch is involved.

The memory is bounded by `purge`: keep rows longer than the broker can redeliver, that is longer
than the topic's retention plus the oldest dead letter anyone may still replay.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from operator import attrgetter
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

DDL = """
CREATE TABLE inbox (
    consumer    text        NOT NULL,
    event_id    uuid        NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, event_id)
);
CREATE INDEX inbox_received_at ON inbox (received_at);
"""
"""The table, for the migrations of a service that consumes events."""

FIRST_TIME = """
INSERT INTO inbox (consumer, event_id) VALUES (%(consumer)s, %(received_id)s)
ON CONFLICT DO NOTHING RETURNING event_id
"""
"""What `first_time` executes: a row the first time, none later.

It may stand as a data-modifying CTE in a statement of the caller that reads and locks what the
event is about. Such a statement sees rows as they were before it waited here, except rows that it
locks: those it sees as they are.
"""

_FIRST_TIMES = """
INSERT INTO inbox (consumer, event_id) SELECT %s, unnest(%s::uuid[])
ON CONFLICT DO NOTHING RETURNING event_id
"""


async def first_time(conn: AsyncConnection[Any], consumer: str, event_id: UUID) -> bool:
    """Whether `consumer` meets this event for the first time; the answer holds if `conn` commits.

    Call it first in the effect's transaction. Waits while another transaction decides on the same
    event. Cost: one round trip. consumer: the consumer group's name.
    """
    cursor = await conn.execute(
        FIRST_TIME, {"consumer": consumer, "received_id": event_id}, prepare=True
    )
    return cursor.rowcount == 1


async def first_times(
    conn: AsyncConnection[Any], consumer: str, event_ids: Iterable[UUID]
) -> frozenset[UUID]:
    """Those of `event_ids` that `consumer` meets for the first time; holds if `conn` commits.

    As `first_time`, for all of them in one round trip. The rows are made in the order of the ids,
    so two transactions with some ids in common wait for one another here and never in a circle.
    """
    ids = sorted(frozenset(event_ids), key=attrgetter("int"))
    cursor = await conn.execute(_FIRST_TIMES, (consumer, ids), prepare=True)
    if cursor.rowcount == len(ids):
        return frozenset(ids)
    return frozenset(row[0] for row in await cursor.fetchall())


async def purge(conn: AsyncConnection[Any], *, before: datetime, limit: int = 1000) -> int:
    """Forget at most `limit` events received before `before` (aware); returns how many.

    Bounded, so that a long-neglected table is cleaned in short transactions: call until it
    returns less than `limit`.
    """
    cursor = await conn.execute(
        "DELETE FROM inbox WHERE ctid = ANY (ARRAY("
        "SELECT ctid FROM inbox WHERE received_at < %s LIMIT %s))",
        (before, limit),
    )
    return cursor.rowcount
