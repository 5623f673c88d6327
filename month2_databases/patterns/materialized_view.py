"""A question answered ahead: a materialised view that says how old its answer is.

Reads touch the few rows of the answer instead of the many it was made of. The price is age: what
was written after the last refresh is missing, and nothing in the rows tells. So the instant is
kept beside them, and a reader names the age it can live with.

    REFRESH … CONCURRENTLY   readers go on while it runs; it needs a unique key, compares the new
                             answer with the old, and writes only what differs

Guarantees
    V1  Rows and `as_of` that are read together belong together, also while a refresh commits.
    V2  All that was committed before `as_of` is in the rows.
    V3  A refresh happens whole or not at all; one that fails leaves rows and `as_of` as they were.
    V4  Two refreshes at once: one works, the other returns False and waits for nothing.

Times are the server's alone: the age is measured by the clock that stamped it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg import AsyncConnection, sql

from scalelab.clients.postgres import Database
from scalelab.errors import Conflict, InvalidInput, NotFound, Unavailable

_FRESHNESS = """
CREATE TABLE IF NOT EXISTS view_freshness (
    view text PRIMARY KEY,
    as_of timestamptz NOT NULL
)
"""


class ViewTooStale(Unavailable):
    """The view is older than the reader can live with. A refresh helps, waiting does not."""

    code = "view_too_stale"


@dataclass(frozen=True, slots=True)
class AsOf:
    """rows: as they were at `as_of`, at least. age_s: by the server's clock when it answered."""

    rows: tuple[tuple[Any, ...], ...]
    as_of: datetime
    age_s: float


class MaterializedView:
    """One view, by name. refresh_within_s: then a refresh is given up and has changed nothing."""

    def __init__(self, database: Database, name: str, *, refresh_within_s: float = 60.0) -> None:
        self._database = database
        self._name = name
        self._refresh_within_s = refresh_within_s

    async def define(self, select: LiteralString, *, key: Sequence[str]) -> None:
        """Make the view and fill it. key: columns that tell its rows apart.

        Raises Conflict (view_exists; or unique_violation if the key does not tell rows apart).
        """
        if not key:
            raise InvalidInput("without a key a view cannot be refreshed concurrently", field="key")
        names = {
            "view": sql.Identifier(self._name),
            "index": sql.Identifier(f"{self._name}_key"),
            "columns": sql.SQL(", ").join(map(sql.Identifier, key)),
        }
        async with self._database.transaction(timeout_s=self._refresh_within_s) as conn:
            await self._allow_time(conn)
            await conn.execute(_FRESHNESS)
            cursor = await conn.execute("SELECT to_regclass(%s) IS NOT NULL", (self._name,))
            if await cursor.fetchone() == (True,):
                raise Conflict(f"there is a {self._name} already", code="view_exists")
            await conn.execute(
                "INSERT INTO view_freshness VALUES (%s, clock_timestamp())", (self._name,)
            )
            make = sql.SQL("CREATE MATERIALIZED VIEW {view} AS ").format(**names)
            await conn.execute(make + sql.SQL(select))
            await conn.execute(
                sql.SQL("CREATE UNIQUE INDEX {index} ON {view} ({columns})").format(**names)
            )

    async def refresh(self) -> bool:
        """Ask the question again; False if somebody else is doing that now.

        Raises NotFound, DeadlineExceeded and what `Database.transaction` raises (V3).
        """
        async with self._database.transaction(timeout_s=self._refresh_within_s) as conn:
            await self._allow_time(conn)
            cursor = await conn.execute(
                "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))",
                (f"refresh {self._name}",),
            )
            if await cursor.fetchone() != (True,):
                return False
            # Stamped before the refresh takes its snapshot (V2), in the same transaction (V1).
            stamped = await conn.execute(
                "UPDATE view_freshness SET as_of = clock_timestamp() WHERE view = %s", (self._name,)
            )
            if stamped.rowcount == 0:
                raise self._missing()
            statement = sql.SQL("REFRESH MATERIALIZED VIEW CONCURRENTLY {}")
            await conn.execute(statement.format(sql.Identifier(self._name)))
        return True

    async def read(
        self, select: LiteralString, values: Sequence[object] = (), *, most_stale_s: float
    ) -> AsOf:
        """Rows that are at most so old. Raises ViewTooStale, NotFound if it is not defined."""
        async with self._database.transaction(read_only=True) as conn:
            await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor = await conn.execute(
                "SELECT as_of, extract(epoch FROM clock_timestamp() - as_of)::float8"
                " FROM view_freshness WHERE view = %s",
                (self._name,),
            )
            stamp = await cursor.fetchone()
            if stamp is None:
                raise self._missing()
            as_of, age_s = stamp
            if age_s > most_stale_s:
                raise ViewTooStale(f"{self._name} is {age_s:.1f} s old, over {most_stale_s} s")
            cursor = await conn.execute(select, values)
            return AsOf(tuple(await cursor.fetchall()), as_of, age_s)

    async def _allow_time(self, conn: AsyncConnection) -> None:
        """A refresh may take longer than a statement usually may."""
        await conn.execute(
            "SELECT set_config('statement_timeout', %s, true)",
            (f"{round(self._refresh_within_s * 1000)}ms",),
        )

    def _missing(self) -> NotFound:
        return NotFound(f"there is no materialised view {self._name}", code="view_missing")
