"""Many small writes as few transactions: what is appended in one turn of the loop is one COPY.

A transaction's price is mostly fixed: round trips, a commit record, a sync to disk. Rows that wait
for each other share it. They also share its fate, so a batch that is refused for one row's sake is
halved, and its halves again, until the row stands alone: k bad rows of n cost about k log n
transactions more, and each caller is told about its own row.

Guarantees
    B1  `append` returns when its row is committed, and raises what became of its row alone.
    B2  Rows end as if written one by one in the order in which they were appended within a batch:
        of two with the same key the first is stored and the second refused.
    B3  A server that is away, or a COMMIT that was not answered, is no row's fault: nothing is
        halved then. The error, OutcomeUnknown too, goes to the rows of that transaction only.

Nothing is repeated here. After OutcomeUnknown append the row again: if it carries a unique key,
`unique_violation` says that it was stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import psycopg
from psycopg import sql

from scalelab.clients.postgres import Database
from scalelab.clients.tick_batches import TickBatches
from scalelab.errors import InvalidInput, ScalelabError

Row = tuple[object, ...]
Outcome = ScalelabError | None
"""None: the row is stored."""


class BatchedWrites:
    """Rows for one table; an async context manager, which sends no more once it is left.

    max_batch: rows of one transaction. max_batches: at once, each on a connection of the pool.
    Beyond max_pending waiting rows `append` raises Unavailable and the row is not written.
    """

    def __init__(
        self,
        database: Database,
        table: str,
        columns: Sequence[str],
        *,
        max_batch: int = 256,
        max_batches: int = 2,
        max_pending: int = 8192,
    ) -> None:
        self._database = database
        self._columns = tuple(columns)
        self._copy = sql.SQL("COPY {} ({}) FROM STDIN").format(
            sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, self._columns))
        )
        self.transactions = 0
        """Begun so far, those that were refused too."""
        self._batches: TickBatches[Row, Outcome] = TickBatches(
            self._send,
            what=f"table {table}",
            max_batch=max_batch,
            max_batches=max_batches,
            max_pending=max_pending,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._batches.aclose()

    async def append(self, *row: object) -> None:
        """Store a row, its values in the order of `columns`.

        Raises InvalidInput (wrong number of values, or one that the column does not take),
        Conflict (a constraint), Unavailable (not stored), OutcomeUnknown (perhaps stored).
        """
        if len(row) != len(self._columns):
            raise InvalidInput(
                f"{len(row)} values for {len(self._columns)} columns", field="row", code="row_shape"
            )
        outcome = await self._batches.answer(row)
        if outcome is not None:
            raise outcome

    async def _send(self, rows: Sequence[Row]) -> list[Outcome]:
        """What became of each row, halving what is refused."""
        error = await self._try(rows)
        if error is None or not _is_a_rows_fault(error):
            return [error] * len(rows)
        if len(rows) == 1:
            return [_of_row(error)]
        middle = len(rows) // 2
        return [*await self._send(rows[:middle]), *await self._send(rows[middle:])]

    async def _try(self, rows: Sequence[Row]) -> Outcome:
        self.transactions += 1
        try:
            async with (
                self._database.transaction() as conn,
                conn.cursor() as cursor,
                cursor.copy(self._copy) as copy,
            ):
                for row in rows:
                    await copy.write_row(row)
        except ScalelabError as error:
            return error
        return None


def _is_a_rows_fault(error: ScalelabError) -> bool:
    """A value that no column takes, or a constraint; as the server says, or the driver before."""
    cause = error.__cause__
    if isinstance(cause, psycopg.DataError | psycopg.IntegrityError):
        return True
    return isinstance(cause, psycopg.ProgrammingError) and cause.sqlstate is None


def _of_row(error: ScalelabError) -> ScalelabError:
    if isinstance(error.__cause__, psycopg.IntegrityError):
        return error
    refused = InvalidInput(error.message, field="row", code="row_refused")
    refused.__cause__ = error.__cause__
    return refused
