"""Order events as they stand in the log, and what the view must say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from psycopg import sql

from month3_messaging.broker import Event, to_headers, to_value
from month3_messaging.readmodel import Generation, look
from scalelab.clients.kafka import Record
from scalelab.clients.postgres import Database

Rows = dict[UUID, tuple[str, str, int]]
"""User, status and number of statuses by order id."""


@dataclass(slots=True)
class Log:
    """The records of a topic in memory, for tests that need no broker; one partition or more."""

    partitions: int = 1
    records: list[Record] = field(default_factory=list[Record])

    def add(self, events: Sequence[Event], partition: int = 0) -> list[Record]:
        """Append; returns what was appended."""
        added = [
            Record("t", partition, at, one.subject, to_value(one), dict(to_headers(one)), 0)
            for at, one in enumerate(events, self.ends()[partition])
        ]
        self.records += added
        return added

    def ends(self) -> dict[int, int]:
        """The next offset of each partition."""
        return {
            partition: sum(one.partition == partition for one in self.records)
            for partition in range(self.partitions)
        }


def rows_of(events: Sequence[Event]) -> Rows:
    """What the view must show after all of these events of orders that were placed."""
    rows: Rows = {}
    for event in events:
        order_id = UUID(event.subject)
        status = event.type.split(".")[2].replace("placed", "pending")
        user, _, number = rows.get(order_id, (str(event.data.get("user_id")), "", 0))
        rows[order_id] = (user, status, number + 1)
    return rows


async def shown(database: Database, what: str = "order_view") -> Rows:
    """What the view shows now, or a generation's table; in one statement."""
    query = sql.SQL("SELECT order_id, user_id, status, jsonb_array_length(entered) FROM {}")
    async with database.autocommit(read_only=True) as conn:
        cursor = await conn.execute(query.format(sql.Identifier(what)))
        return {row[0]: tuple(row[1:]) for row in await cursor.fetchall()}


async def generations(database: Database) -> dict[int, Generation]:
    """All that are there."""
    async with database.autocommit(read_only=True) as conn:
        return await look(conn)
