"""The journal of moves, beside the shard map: where each move stands, and who may go on with it.

Two locks, for they guard against different things. An advisory lock of the owner's session tells
living owners apart at once. The epoch, which every taker raises, refuses the write of one who lost
that session without knowing it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from month2_databases.resharding.steps import Move, Step, taken_over
from scalelab.clients.postgres import Database
from scalelab.errors import Conflict, NotFound

JOURNAL_DDL = """
CREATE TABLE IF NOT EXISTS shard_move (
    name       text        PRIMARY KEY CHECK (name ~ '^[a-z0-9_]{1,50}$'),
    slots      smallint[]  NOT NULL,
    source     text        NOT NULL,
    target     text        NOT NULL,
    step       text        NOT NULL,
    epoch      bigint      NOT NULL,
    reason     text        NOT NULL,
    row_count  bigint      NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
)
"""

_COLUMNS = "name, slots, source, target, step, epoch, reason, row_count"
_ADD = f"INSERT INTO shard_move ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"  # noqa: S608
_SET = """
UPDATE shard_move SET step = %s, epoch = %s, reason = %s, row_count = %s, changed_at = now()
WHERE name = %s AND step = %s AND epoch = %s
"""
_LOCK_CLASS = 0x511


class Journal:
    """Reads and writes moves over a `database` that its caller opens and closes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self) -> None:
        """Make the table if it is missing."""
        async with self._database.transaction() as conn:
            await conn.execute(JOURNAL_DDL)

    async def add(self, move: Move) -> Move:
        """Write a new move down. Raises Conflict `unique_violation` for a name that was used."""
        async with self._database.transaction() as conn:
            await conn.execute(
                _ADD,
                (
                    move.name,
                    list(move.slots),
                    move.source,
                    move.target,
                    move.step.value,
                    move.epoch,
                    move.reason,
                    move.rows,
                ),
            )
        return move

    async def get(self, name: str) -> Move:
        """One move. Raises NotFound code `move_unknown`."""
        query = f"SELECT {_COLUMNS} FROM shard_move WHERE name = %s"  # noqa: S608 - constant
        async with self._database.autocommit(read_only=True) as conn:
            row = await (await conn.execute(query, (name,))).fetchone()
        if row is None:
            raise NotFound(f"there is no move {name}", code="move_unknown")
        return _move(row)

    async def all(self) -> list[Move]:
        """Every move, the last changed first."""
        query = f"SELECT {_COLUMNS} FROM shard_move ORDER BY changed_at DESC"  # noqa: S608
        async with self._database.autocommit(read_only=True) as conn:
            rows = await (await conn.execute(query)).fetchall()
        return [_move(row) for row in rows]

    async def put(self, before: Move, after: Move) -> Move:
        """Go from one state of a move to the next one.

        Raises Conflict code `move_taken_over` if it is not in the state `before` any more.
        """
        async with self._database.transaction() as conn:
            cursor = await conn.execute(
                _SET,
                (
                    after.step.value,
                    after.epoch,
                    after.reason,
                    after.rows,
                    before.name,
                    before.step.value,
                    before.epoch,
                ),
            )
            if cursor.rowcount != 1:
                raise Conflict(
                    f"{before.name} is not {before.step} any more: somebody else has it",
                    code="move_taken_over",
                )
        return after

    @asynccontextmanager
    async def owned(self, name: str) -> AsyncGenerator[Move, None]:
        """Own a move inside the block. Raises Conflict code `move_in_progress` if another does."""
        async with self._database.dedicated() as conn:
            cursor = await conn.execute(
                "SELECT pg_try_advisory_lock(%s, hashtext(%s))", (_LOCK_CLASS, name)
            )
            row = await cursor.fetchone()
            if row is None or not row[0]:
                raise Conflict(f"another process carries out {name}", code="move_in_progress")
            move = await self.get(name)
            yield await self.put(move, taken_over(move)) if not move.has_ended else move


def _move(row: tuple[Any, ...]) -> Move:
    return Move(row[0], tuple(row[1]), row[2], row[3], Step(row[4]), row[5], row[6], row[7])
