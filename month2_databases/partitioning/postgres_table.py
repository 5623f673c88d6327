"""A table in PostgreSQL that is partitioned by time: made ahead, attached, detached, dropped.

What each step locks, and so who waits for it (`lock_wait_s` bounds how long it waits itself; then
it fails with lock_timeout and has changed nothing):

    create, adopt     the table: SHARE UPDATE EXCLUSIVE, so readers and writers go on. The default
                      partition, if there is one: ACCESS EXCLUSIVE, and all its rows are read.
                      (CREATE TABLE … PARTITION OF locks out everyone; it is not used.)
    detach            without a default partition CONCURRENTLY: nobody waits, it waits for those
                      who began before. With one PostgreSQL cannot: ACCESS EXCLUSIVE, briefly.
    drop              the partition, which nobody uses any more.

Guarantees
    D1  `create` and `adopt` happen whole or not at all, also under kill -9.
    D2  A detach that was cut off in the middle is finished by the next `maintain`.
    D3  What retention detaches is marked first, so the next `maintain` drops what this one left.
    D4  A partition whose rows are referenced stays: Conflict (foreign_key_violation) for who asked
        for its detach; `maintain` goes on with the others and names it.

Source: PostgreSQL documentation, "Table partitioning", ALTER TABLE.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import AsyncConnection, sql

from month2_databases.partitioning.postgres_bounds import condition, read_bounds, values_from
from month2_databases.partitioning.time_partitions import (
    Partition,
    Policy,
    Span,
    changes,
    in_order,
    is_covered,
    name_of,
)
from scalelab.clients.postgres import Database
from scalelab.errors import Conflict, InvalidInput, NotFound

_MARK = "retired: to be dropped"
_CONCURRENTLY = sql.SQL("CONCURRENTLY")
_FINALIZE = sql.SQL("FINALIZE")
_PARTITIONS = """
SELECT child.relname, pg_get_expr(child.relpartbound, child.oid), link.inhdetachpending
  FROM pg_inherits AS link JOIN pg_class AS child ON child.oid = link.inhrelid
 WHERE link.inhparent = to_regclass(%s)
"""
_KEY = """
SELECT a.attname, a.atttypid = 'timestamptz'::regtype AND t.partnatts = 1 AND t.partstrat = 'r'
  FROM pg_partitioned_table AS t
  JOIN pg_attribute AS a ON a.attrelid = t.partrelid AND a.attnum = t.partattrs[0]
 WHERE t.partrelid = to_regclass(%s)
"""
_LEFT = """
SELECT c.relname FROM pg_class AS c
 WHERE c.relkind = 'r' AND NOT c.relispartition AND starts_with(c.relname, %s)
   AND obj_description(c.oid, 'pg_class') = %s AND pg_table_is_visible(c.oid)
 ORDER BY c.relname
"""


@dataclass(frozen=True, slots=True)
class Layout:
    """What is attached. default: the one that takes rows without a partition. pending: a detach
    that was cut off."""

    partitions: tuple[Partition, ...]
    default: str | None
    pending: str | None

    def named(self, name: str) -> Partition:
        """Raises NotFound for a name that is not attached."""
        for one in self.partitions:
            if one.name == name:
                return one
        raise NotFound(f"{name} is no partition here", code="no_such_partition")


@dataclass(frozen=True, slots=True)
class Report:
    """What one `maintain` did, by name. held: due to go, but their rows are referenced. stranded:
    rows that wait in the default partition."""

    created: tuple[str, ...]
    dropped: tuple[str, ...]
    held: tuple[str, ...]
    stranded: int


class PartitionedTable:
    """One table, by name in the search path, partitioned by range of one timestamptz column.

    The database's statement time-out bounds each step; adopting a large table reads all of it.
    """

    def __init__(
        self, database: Database, table: str, policy: Policy, *, lock_wait_s: float = 1.0
    ) -> None:
        self._database = database
        self._table = table
        self._policy = policy
        self._lock_wait_s = lock_wait_s

    async def layout(self) -> Layout:
        """What is attached now. Raises NotFound or InvalidInput for a table of another kind."""
        async with self._session() as (conn, _column):
            return await self._layout(conn)

    async def maintain(self, now: datetime) -> Report:
        """Make what must exist at `now`, and drop what retention lets go. Any number of times.

        Raises Conflict (maintenance_running) if another session is at it.
        """
        async with self._session() as (conn, column):
            await self._alone(conn)
            layout = await self._layout(conn)
            if layout.pending is not None:
                await conn.execute(self._detaching(layout.pending, _FINALIZE), prepare=False)
                layout = await self._layout(conn)
            wanted = changes(self._policy, layout.partitions, now)
            created = [await self._create(conn, column, span, layout) for span in wanted.create]
            held = [one.name for one in wanted.retire if not await self._retire(conn, one, layout)]
            dropped = await self._drop_marked(conn)
            stranded = await _count(conn, layout.default)
        return Report(tuple(created), dropped, tuple(held), stranded)

    async def create(self, span: Span) -> str:
        """Attach an empty table for a span, and move its rows out of the default partition.

        Raises InvalidInput (overlapping_bounds). Returns the name.
        """
        async with self._session() as (conn, column):
            layout = await self._layout(conn)
            if is_covered(span, layout.partitions):
                raise InvalidInput(f"{span} has a partition", code="overlapping_bounds")
            return await self._create(conn, column, span, layout)

    async def adopt(self, table: str, span: Span) -> None:
        """Attach a table that was filled beside this one, without reading it under a lock.

        The CHECK is added unproved and proved while readers and writers go on; ATTACH then finds
        it and believes it. Raises Conflict (check_violation) if a row is outside the span, and
        InvalidInput (overlapping_bounds).
        """
        async with self._session() as (conn, column):
            layout = await self._layout(conn)
            in_order([*layout.partitions, Partition(table, span)])
            names = {"table": sql.Identifier(table), "check": sql.Identifier(f"{table}_span")}
            add = sql.SQL("ALTER TABLE {table} ADD CONSTRAINT {check} CHECK ({of}) NOT VALID")
            prove = sql.SQL("ALTER TABLE {table} VALIDATE CONSTRAINT {check}").format(**names)
            forget = sql.SQL("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {check}").format(
                **names
            )
            await conn.execute(forget, prepare=False)
            of = condition(column, span)
            await conn.execute(add.format(**names, of=of), prepare=False)
            try:
                await conn.execute(prove, prepare=False)
                async with conn.transaction():
                    await conn.execute(self._attaching(table, span), prepare=False)
                    await conn.execute(forget, prepare=False)
            except psycopg.Error:
                if not conn.closed:
                    await conn.execute(forget, prepare=False)
                raise

    async def detach(self, name: str) -> None:
        """Make a partition a table of its own, which stays. Raises NotFound, Conflict (D4)."""
        async with self._session() as (conn, _column):
            layout = await self._layout(conn)
            await _mark(conn, layout.named(name).name, None)
            await self._detach(conn, name, layout)

    async def empty_default(self, *, most_spans: int = 12, most_rows: int = 100_000) -> int:
        """Give rows of the default partition the partitions they lack; how many were moved.

        Each span is one transaction, in which writers to the default partition wait: so it is
        refused with Conflict (default_too_full) if there are more rows than `most_rows`. Also with
        foreign_key_violation if another table references one of them: they cannot leave.
        """
        async with self._session() as (conn, column):
            await self._alone(conn)
            layout = await self._layout(conn)
            if layout.default is None:
                return 0
            before = await _count(conn, layout.default)
            if before > most_rows:
                raise Conflict(f"{layout.default} holds {before} rows", code="default_too_full")
            for _ in range(most_spans):
                oldest = await _oldest(conn, column, layout.default)
                if oldest is None:
                    break
                span = self._policy.cadence.span_of(oldest)
                is_covered(span, layout.partitions)
                await self._create(conn, column, span, layout)
            return before - await _count(conn, layout.default)

    async def _create(self, conn: AsyncConnection, column: str, span: Span, layout: Layout) -> str:
        name = name_of(self._table, span)
        cursor = await conn.execute("SELECT to_regclass(%s) IS NOT NULL", (name,))
        if await cursor.fetchone() == (True,):
            raise Conflict(f"a table {name} is there, unattached", code="name_taken")
        names = {"parent": sql.Identifier(self._table), "part": sql.Identifier(name)}
        make = "CREATE TABLE {part} (LIKE {parent} INCLUDING ALL EXCLUDING IDENTITY)"
        async with conn.transaction():
            await conn.execute(sql.SQL(make).format(**names), prepare=False)
            if layout.default is not None:
                await _move(conn, layout.default, name, condition(column, span))
            await conn.execute(self._attaching(name, span), prepare=False)
        return name

    async def _retire(self, conn: AsyncConnection, one: Partition, layout: Layout) -> bool:
        """Mark and detach; False if its rows are referenced, and then it is not marked either."""
        await _mark(conn, one.name, _MARK)
        try:
            await self._detach(conn, one.name, layout)
        except psycopg.errors.ForeignKeyViolation:
            await _mark(conn, one.name, None)
            return False
        return True

    async def _detach(self, conn: AsyncConnection, name: str, layout: Layout) -> None:
        how = _CONCURRENTLY if layout.default is None else sql.SQL("")
        await conn.execute(self._detaching(name, how), prepare=False)

    async def _drop_marked(self, conn: AsyncConnection) -> tuple[str, ...]:
        cursor = await conn.execute(_LEFT, (f"{self._table}_p", _MARK))
        names = tuple(str(row[0]) for row in await cursor.fetchall())
        for name in names:
            await conn.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
        return names

    def _attaching(self, name: str, span: Span) -> sql.Composed:
        return sql.SQL("ALTER TABLE {} ATTACH PARTITION {} {}").format(
            sql.Identifier(self._table), sql.Identifier(name), values_from(span)
        )

    def _detaching(self, name: str, how: sql.SQL) -> sql.Composed:
        return sql.SQL("ALTER TABLE {} DETACH PARTITION {} {}").format(
            sql.Identifier(self._table), sql.Identifier(name), how
        )

    async def _layout(self, conn: AsyncConnection) -> Layout:
        cursor = await conn.execute(_PARTITIONS, (self._table,))
        partitions: list[Partition] = []
        default = pending = None
        for name, bounds, is_pending in await cursor.fetchall():
            if is_pending:
                pending = name
                continue
            span = read_bounds(bounds)
            if span is None:
                default = name
            else:
                partitions.append(Partition(name, span))
        return Layout(tuple(in_order(partitions)), default, pending)

    async def _alone(self, conn: AsyncConnection) -> None:
        """Hold this table's advisory lock until the session ends."""
        cursor = await conn.execute(
            "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (f"partitions {self._table}",)
        )
        row = await cursor.fetchone()
        if row is None or not row[0]:
            raise Conflict(f"{self._table} is being maintained", code="maintenance_running")

    @asynccontextmanager
    async def _session(self) -> AsyncGenerator[tuple[AsyncConnection, str]]:
        """A connection of its own, and the column of the table's key."""
        async with self._database.dedicated() as conn:
            # pg_get_expr writes bounds as the session writes instants.
            await conn.execute("SET DateStyle = ISO")
            await conn.execute(
                "SELECT set_config('lock_timeout', %s, false)",
                (f"{round(self._lock_wait_s * 1000)}ms",),
            )
            cursor = await conn.execute(_KEY, (self._table,))
            row = await cursor.fetchone()
            if row is None:
                raise NotFound(f"{self._table} is no partitioned table", code="not_partitioned")
            if not row[1]:
                raise InvalidInput(
                    f"{self._table} is not partitioned by range of one timestamptz column",
                    field="table",
                    code="foreign_bounds",
                )
            yield conn, str(row[0])


async def _mark(conn: AsyncConnection, name: str, mark: str | None) -> None:
    statement = sql.SQL("COMMENT ON TABLE {} IS {}")
    await conn.execute(statement.format(sql.Identifier(name), sql.Literal(mark)), prepare=False)


async def _move(conn: AsyncConnection, default: str, partition: str, of_span: sql.Composed) -> None:
    """Within a transaction: no writer may put a row of the span there between move and attach."""
    names = {"default": sql.Identifier(default), "part": sql.Identifier(partition)}
    lock = sql.SQL("LOCK TABLE {default} IN ACCESS EXCLUSIVE MODE")
    await conn.execute(lock.format(**names), prepare=False)
    move = sql.SQL(
        "WITH moved AS (DELETE FROM {default} WHERE {of} RETURNING *)"
        " INSERT INTO {part} SELECT * FROM moved"
    )
    await conn.execute(move.format(**names, of=of_span), prepare=False)


async def _count(conn: AsyncConnection, table: str | None) -> int:
    if table is None:
        return 0
    cursor = await conn.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table)))
    row = await cursor.fetchone()
    return row[0] if row else 0


async def _oldest(conn: AsyncConnection, column: str, table: str) -> datetime | None:
    statement = sql.SQL("SELECT min({}) FROM {}")
    cursor = await conn.execute(statement.format(sql.Identifier(column), sql.Identifier(table)))
    row = await cursor.fetchone()
    return row[0] if row else None
