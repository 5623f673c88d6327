"""The shard that slots go to: rows come in and are counted as progress in the same transaction.

The place in the source's log up to which this shard has the rows stands beside the rows and
commits with them. A mover that was killed between two batches cannot lose one or apply it twice,
wherever it stood.

Rows are written with session_replication_role = replica, as PostgreSQL's own subscriptions write:
the slot guard and the application's triggers have done their work at the source.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection, Connection, sql

from month2_databases.resharding.row_changes import Batch, Change, Patch, Remove, RemoveAll, Upsert
from month2_databases.resharding.servers import ShardServer, session
from month2_databases.resharding.tables import Layout, names
from month2_databases.sharding import open_slots
from scalelab.errors import Conflict

PROGRESS_DDL = """
CREATE TABLE IF NOT EXISTS shard_move_progress (
    move  text   PRIMARY KEY,
    epoch bigint NOT NULL,
    lsn   bigint NOT NULL
)
"""

_ADVANCE = "UPDATE shard_move_progress SET lsn = %s WHERE move = %s AND epoch = %s AND lsn <= %s"


class Target:
    """Acts on the target of move `name`, as its owner under `epoch`."""

    def __init__(
        self,
        server: ShardServer,
        name: str,
        slots: Sequence[int],
        layouts: Sequence[Layout],
        epoch: int,
    ) -> None:
        self.server = server
        self._name = name
        self._slots = list(slots)
        self._layouts = {layout.table.name: layout for layout in layouts}
        self._epoch = epoch

    async def progress(self) -> int | None:
        """The LSN up to which the rows are here; None before the copy is whole. Takes the epoch:
        an earlier owner can write no more."""
        async with session(self.server) as conn:
            await conn.execute(PROGRESS_DDL)
            cursor = await conn.execute(
                "UPDATE shard_move_progress SET epoch = greatest(epoch, %s) WHERE move = %s"
                " RETURNING lsn, epoch",
                (self._epoch, self._name),
            )
            row = await cursor.fetchone()
        if row is None:
            return None
        if row[1] != self._epoch:
            raise _taken(self._name)
        return int(row[0])

    def copied(self, conn: Connection, lsn: int) -> None:
        """Write, in the copy's own transaction, that it is whole as of `lsn`. Blocks."""
        conn.execute(
            "INSERT INTO shard_move_progress (move, epoch, lsn) VALUES (%s, %s, %s)",
            (self._name, self._epoch, lsn),
        )

    @asynccontextmanager
    async def applying(self) -> AsyncGenerator[AsyncConnection[Any], None]:
        """A session for `apply`."""
        async with session(self.server) as conn:
            await conn.execute("SET session_replication_role = replica")
            conn.prepare_threshold = 1
            yield conn

    async def apply(self, conn: AsyncConnection[Any], batch: Batch) -> None:
        """One transaction: the batch's changes in order, and the progress after them.

        Raises Conflict code `move_taken_over` if another owner has this move by now, code
        `row_taken` if a row's key is taken by a row of another slot here.
        """
        async with conn.transaction():
            async with conn.pipeline():
                cursors = [await self._change(conn, change) for change in batch.changes]
                moved = await conn.execute(
                    _ADVANCE, (batch.end_lsn, self._name, self._epoch, batch.end_lsn)
                )
            if moved.rowcount != 1:
                raise _taken(self._name)
            for change, count in zip(batch.changes, cursors, strict=True):
                if isinstance(change, Upsert | Patch) and count.rowcount != 1:
                    raise Conflict(
                        f"{self.server.name} has another row with the key of one in {change.table}",
                        code="row_taken",
                    )

    async def open(self, *, map_version: int) -> None:
        """Own the slots and take their writes. Repeatable, with a higher version too."""
        async with session(self.server) as conn, conn.transaction():
            await open_slots(conn, self._slots, map_version=map_version)

    async def forget(self) -> None:
        """Drop the progress: the move is over, or its copy is to begin anew."""
        async with session(self.server) as conn:
            await conn.execute(PROGRESS_DDL)
            await conn.execute("DELETE FROM shard_move_progress WHERE move = %s", (self._name,))

    async def _change(self, conn: AsyncConnection[Any], change: Change) -> Any:
        layout = self._layouts[change.table]
        match change:
            case Upsert():
                statement = _upsert(layout)
                values = dict(change.values)
                row = [values[column] for column in layout.columns]
                return await conn.execute(statement, [*row, self._slots])
            case Patch():
                columns = [name for name, _ in change.values if name in layout.columns]
                values = dict(change.values)
                keys = [value for _, value in change.key]
                statement = _patch(layout, columns, [name for name, _ in change.key])
                return await conn.execute(
                    statement, [*(values[name] for name in columns), *keys, self._slots]
                )
            case Remove():
                statement = sql.SQL("DELETE FROM {} WHERE ({}) = ({}) AND {}").format(
                    layout.name,
                    names([name for name, _ in change.key]),
                    _marks(len(change.key)),
                    layout.of_slots,
                )
                return await conn.execute(
                    statement, [*(value for _, value in change.key), self._slots]
                )
            case RemoveAll():
                statement = sql.SQL("DELETE FROM {} WHERE {}").format(layout.name, layout.of_slots)
                return await conn.execute(statement, [self._slots])


def _upsert(layout: Layout) -> sql.Composed:
    others = [column for column in layout.columns if column not in layout.keys]
    changes = sql.SQL(", ").join(
        sql.SQL("{0} = excluded.{0}").format(sql.Identifier(column))
        for column in others or layout.keys[:1]
    )
    return sql.SQL(
        "INSERT INTO {} AS here ({}) OVERRIDING SYSTEM VALUE VALUES ({})"
        " ON CONFLICT ({}) DO UPDATE SET {} WHERE here.{}"
    ).format(
        layout.name,
        layout.column_list,
        _marks(len(layout.columns)),
        layout.key_list,
        changes,
        layout.of_slots,
    )


def _patch(layout: Layout, columns: Sequence[str], keys: Sequence[str]) -> sql.Composed:
    changes = sql.SQL(", ").join(
        sql.SQL("{} = %s").format(sql.Identifier(column)) for column in columns
    )
    return sql.SQL("UPDATE {} SET {} WHERE ({}) = ({}) AND {}").format(
        layout.name, changes, names(keys), _marks(len(keys)), layout.of_slots
    )


def _marks(count: int) -> sql.Composed:
    return sql.SQL(", ").join([sql.SQL("%s")] * count)


def _taken(name: str) -> Conflict:
    return Conflict(f"somebody else has taken {name} over", code="move_taken_over")
