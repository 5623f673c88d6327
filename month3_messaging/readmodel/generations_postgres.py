"""Generations in PostgreSQL: their offsets, their tables, and the view that readers ask.

Every function works in the caller's transaction. Locks are taken in one order, generation rows by
number, places, tables, so that no two of these wait for each other.

Why a reader never meets an empty or a half table
    The view's text is replaced in the transaction that compares the offsets. A statement locks the
    view, and what it is made of, before it takes its snapshot, and keeps the lock to the end: the
    swap waits for statements that are under way, and those that come meanwhile wait for the swap
    and then read what it left. A transaction of REPEATABLE READ that is older than the swap has an
    older snapshot and may not read across it: ask in single statements, as reading.py does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection, sql
from psycopg import errors as sql_errors

from month3_messaging.readmodel.generation import Generation, Place, State, may_go_live
from scalelab.errors import InvalidInput, NotFound, Unavailable

DDL = """
CREATE TABLE read_generation (
    number   integer PRIMARY KEY,
    state    text        NOT NULL CHECK (state IN ('building', 'live', 'retired')),
    begun_at timestamptz NOT NULL DEFAULT now(),
    live_at  timestamptz
);
CREATE UNIQUE INDEX one_of_a_state ON read_generation (state) WHERE state <> 'retired';
CREATE TABLE read_place (
    generation  integer NOT NULL REFERENCES read_generation ON DELETE CASCADE,
    partition   integer NOT NULL,
    next_offset bigint  NOT NULL DEFAULT 0,
    target      bigint  NOT NULL,
    unreadable  bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (generation, partition)
);
"""
"""The tables, for the migrations of a service that keeps this read model."""

VIEW = "order_view"
"""What readers ask. It is there once the first generation is live."""

_TABLE = """
CREATE TABLE {table} (
    order_id    uuid PRIMARY KEY,
    user_id     text,
    lines       jsonb,
    total_minor bigint,
    currency    text,
    status      text        NOT NULL,
    entered     jsonb       NOT NULL,
    updated_at  timestamptz NOT NULL
);
CREATE INDEX ON {table} (user_id, order_id DESC);
"""
_VIEW = """
CREATE OR REPLACE VIEW order_view AS
SELECT order_id, user_id, lines, total_minor, currency, status, entered, updated_at
FROM {table} WHERE user_id IS NOT NULL
"""
_LOOK = """
SELECT g.number, g.state, p.partition, p.next_offset, p.target, p.unreadable
FROM read_generation AS g JOIN read_place AS p ON p.generation = g.number
ORDER BY g.number, p.partition
"""


def table_of(number: int) -> sql.Identifier:
    """The name of a generation's table."""
    return sql.Identifier(f"order_view_{number}")


async def begin(conn: AsyncConnection[Any], ends: Mapping[int, int]) -> int:
    """Begin a generation, or find the one that is being built; returns its number.

    ends: where each partition of the log ends now. Repeatable: however many ask, one is built.
    """
    if not ends:
        raise InvalidInput("a log without partitions cannot be read", field="ends")
    await conn.execute("LOCK TABLE read_generation IN SHARE ROW EXCLUSIVE MODE")
    cursor = await conn.execute(
        "SELECT number FROM read_generation WHERE state = %s", (State.BUILDING,)
    )
    row = await cursor.fetchone()
    if row is not None:
        return int(row[0])
    cursor = await conn.execute(
        "INSERT INTO read_generation (number, state)"
        " SELECT coalesce(max(number), 0) + 1, %s FROM read_generation RETURNING number",
        (State.BUILDING,),
    )
    row = await cursor.fetchone()
    number = int(row[0]) if row else 0
    await conn.execute(
        "INSERT INTO read_place (generation, partition, target)"
        " SELECT %s, * FROM unnest(%s::int[], %s::bigint[])",
        (number, list(ends), list(ends.values())),
    )
    await conn.execute(sql.SQL(_TABLE).format(table=table_of(number)))
    return number


async def look(conn: AsyncConnection[Any]) -> dict[int, Generation]:
    """All generations that are there, by number, ascending; one snapshot."""
    found: dict[int, tuple[State, dict[int, Place]]] = {}
    cursor = await conn.execute(_LOOK)
    for number, state, partition, *place in await cursor.fetchall():
        found.setdefault(number, (State(state), {}))[1][partition] = Place(*place)
    return {number: Generation(number, *rest) for number, rest in found.items()}


async def hold(conn: AsyncConnection[Any], number: int, partitions: list[int]) -> dict[int, int]:
    """Keep the generation as it is and lock these places; their next offsets.

    Raises NotFound `generation_over` for one that is retired or dropped, `unknown_partition` for
    a partition that the log did not have when the generation was begun.
    """
    cursor = await conn.execute(
        "SELECT state FROM read_generation WHERE number = %s FOR SHARE", (number,), prepare=True
    )
    row = await cursor.fetchone()
    if row is None or row[0] == State.RETIRED:
        raise NotFound(f"generation {number} is over", code="generation_over")
    cursor = await conn.execute(
        "SELECT partition, next_offset FROM read_place"
        " WHERE generation = %s AND partition = ANY (%s) ORDER BY partition FOR UPDATE",
        (number, partitions),
        prepare=True,
    )
    offsets: dict[int, int] = dict(await cursor.fetchall())
    if new := set(partitions) - offsets.keys():
        raise NotFound(
            f"generation {number} knows no partitions {sorted(new)}: rebuild",
            code="unknown_partition",
        )
    return offsets


async def move(
    conn: AsyncConnection[Any], number: int, partition: int, next_offset: int, unreadable: int
) -> None:
    """Note how far a partition that is held is folded, and how many more could not be read."""
    await conn.execute(
        "UPDATE read_place SET next_offset = %s, unreadable = unreadable + %s"
        " WHERE generation = %s AND partition = %s",
        (next_offset, unreadable, number, partition),
        prepare=True,
    )


async def swap(conn: AsyncConnection[Any], number: int, *, lock_timeout_s: float) -> bool:
    """Let readers ask generation `number` from this commit on, if that takes nothing from them.

    Returns whether it is live. lock_timeout_s: how long to wait for statements that read the view;
    those that come meanwhile wait behind. Raises NotFound `generation_over` as `hold` does, and
    Unavailable `readers_in_the_way` if it waited in vain.
    """
    async with _locks_within(conn, lock_timeout_s):
        await conn.execute(
            "SELECT FROM read_generation WHERE state <> 'retired' ORDER BY number FOR UPDATE"
        )
        return await _swap(conn, number)


async def _swap(conn: AsyncConnection[Any], number: int) -> bool:
    generations = await look(conn)
    mine = generations.get(number)
    if mine is None or mine.state is State.RETIRED:
        raise NotFound(f"generation {number} is over", code="generation_over")
    if mine.state is State.LIVE:
        return True
    live = next((one for one in generations.values() if one.state is State.LIVE), None)
    if not may_go_live(mine, live):
        return False
    await conn.execute(sql.SQL(_VIEW).format(table=table_of(number)))
    await conn.execute("UPDATE read_generation SET state = 'retired' WHERE state = 'live'")
    await conn.execute(
        "UPDATE read_generation SET state = 'live', live_at = clock_timestamp() WHERE number = %s",
        (number,),
    )
    return True


async def drop_retired(conn: AsyncConnection[Any], *, lock_timeout_s: float) -> list[int]:
    """Drop the tables and offsets of generations that nobody is sent to any more; which.

    Waits for statements that still read them; raises Unavailable `readers_in_the_way` if in vain.
    Repeatable.
    """
    async with _locks_within(conn, lock_timeout_s):
        cursor = await conn.execute(
            "SELECT number FROM read_generation WHERE state = 'retired' ORDER BY number FOR UPDATE"
        )
        retired = [number for (number,) in await cursor.fetchall()]
        for number in retired:
            await conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table_of(number)))
        await conn.execute("DELETE FROM read_generation WHERE number = ANY (%s)", (retired,))
    return retired


@asynccontextmanager
async def _locks_within(
    conn: AsyncConnection[Any], lock_timeout_s: float
) -> AsyncGenerator[None, None]:
    """Wait for no lock of this transaction longer than that from here on."""
    await conn.execute(
        "SELECT set_config('lock_timeout', %s, true)", (f"{round(lock_timeout_s * 1000)}ms",)
    )
    try:
        yield
    except sql_errors.LockNotAvailable as error:
        raise Unavailable(
            f"the order view was in use for over {lock_timeout_s} s", code="readers_in_the_way"
        ) from error
