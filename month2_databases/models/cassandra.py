"""The order model on a Cassandra ring: one table a question, written together.

A ring finds rows by their partition key and sorts them within it, and does nothing else: no join,
no index worth having, no foreign key. So the questions come first, and each gets a table that
answers it from one partition:

    Q1  what is in this order?                     order_by_id       partition: the order
    Q2  what did this user order, newest first?    orders_by_user    partition: user and month
    Q3  which orders of this day wait for payment? waiting_by_day    partition: day and bucket

Month and bucket bound the partitions: a user who orders for ten years, or a day with a million
orders, must not become one partition that one replica set has to carry. Whoever asks reads several
partitions then, a known number of them.

What the database kept in normal forms, the writer keeps here: a logged batch writes all tables or
none, sooner or later, and readers may see it half done. `order_by_id` decides: a state changes
there by compare-and-set, and the other tables are written after it, from it. A writer that dies
in between leaves them behind; `settle` writes them again, as often as one likes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from uuid import UUID

from month2_databases.consistency import Level, Ring, Row
from scalelab.errors import Conflict, InvalidInput, NotFound
from scalelab.hashing import slot_for_key

BUCKETS = 8
"""Partitions of one day of waiting orders."""
WAITING = "pending"
_FIRST_US = 1
"""Timestamp of everything that `place` writes: it loses to every later change, whatever the clocks
say, so placing an order again never takes a change back."""
MOST_LINES = 100

TABLES = (
    """
    CREATE TABLE IF NOT EXISTS order_by_id (
        order_id uuid PRIMARY KEY,
        user_id text, placed_at timestamp, state text,
        lines frozen<list<frozen<tuple<text, int, int>>>>
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS orders_by_user (
        user_id text, month text, placed_at timestamp, order_id uuid,
        state text, total_cents bigint,
        PRIMARY KEY ((user_id, month), placed_at, order_id)
    ) WITH CLUSTERING ORDER BY (placed_at DESC, order_id DESC)
    """,
    """
    CREATE TABLE IF NOT EXISTS waiting_by_day (
        day date, bucket int, order_id uuid, user_id text,
        PRIMARY KEY ((day, bucket), order_id)
    )
    """,
)

_PLACE = """
    BEGIN BATCH USING TIMESTAMP ?
    INSERT INTO order_by_id (order_id, user_id, placed_at, state, lines) VALUES (?, ?, ?, ?, ?);
    INSERT INTO orders_by_user (user_id, month, placed_at, order_id, state, total_cents)
        VALUES (?, ?, ?, ?, ?, ?);
    INSERT INTO waiting_by_day (day, bucket, order_id, user_id) VALUES (?, ?, ?, ?);
    APPLY BATCH
"""


@dataclass(frozen=True, slots=True)
class Line:
    """quantity of one thing, at its price when it was ordered."""

    sku: str
    quantity: int
    unit_cents: int


@dataclass(frozen=True, slots=True)
class RingOrder:
    """An order whole. placed_at: aware, UTC, to the millisecond: a ring keeps no finer."""

    order_id: UUID
    user_id: str
    placed_at: datetime
    lines: tuple[Line, ...]
    state: str = WAITING

    def __post_init__(self) -> None:
        if not 1 <= len(self.lines) <= MOST_LINES:
            raise InvalidInput(f"an order has 1 to {MOST_LINES} lines", field="lines")
        if self.placed_at.tzinfo is None:
            raise InvalidInput("an instant without a zone is none", field="placed_at")

    @property
    def total_cents(self) -> int:
        """What it costs; stored with Q2's rows, so that a list needs no lines."""
        return sum(line.quantity * line.unit_cents for line in self.lines)


@dataclass(frozen=True, slots=True)
class OrderHead:
    """A row of a user's list."""

    order_id: UUID
    placed_at: datetime
    state: str
    total_cents: int


class OrderTables:
    """Orders on a ring. Reads and writes wait for quorums: a read meets what was acknowledged."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    async def place(self, order: RingOrder) -> None:
        """Write an order to all tables. Placing it again changes nothing, nor what came after.

        Raises Unavailable (nothing done) or OutcomeUnknown (place it again).
        """
        await self._ring.write(
            _PLACE,
            (
                _FIRST_US,
                *(order.order_id, order.user_id, order.placed_at, WAITING, _stored(order.lines)),
                *(order.user_id, _month(order.placed_at), order.placed_at, order.order_id),
                *(WAITING, order.total_cents),
                *(order.placed_at.date(), _bucket(order.order_id), order.order_id, order.user_id),
            ),
        )

    async def by_id(self, order_id: UUID) -> RingOrder:
        """Q1. Raises NotFound."""
        rows = await self._ring.read_agreed(
            "SELECT * FROM order_by_id WHERE order_id = ?", (order_id,)
        )
        if not rows or rows[0]["user_id"] is None:
            raise NotFound(f"there is no order {order_id}")
        return _order(rows[0])

    async def of_user(self, user_id: str, months: Sequence[str], *, most: int) -> list[OrderHead]:
        """Q2: up to `most`, newest first, of the months named `2026-11`, newest month first."""
        heads: list[OrderHead] = []
        for month in months:
            rows = await self._ring.read(
                "SELECT order_id, placed_at, state, total_cents FROM orders_by_user"
                " WHERE user_id = ? AND month = ? LIMIT ?",
                (user_id, month, most - len(heads)),
            )
            heads += [_head(row) for row in rows]
            if len(heads) >= most:
                break
        return heads

    async def waiting(self, day: date) -> set[UUID]:
        """Q3: orders of a day that wait for payment, from all its buckets."""
        found: set[UUID] = set()
        for bucket in range(BUCKETS):
            rows = await self._ring.read(
                "SELECT order_id FROM waiting_by_day WHERE day = ? AND bucket = ?", (day, bucket)
            )
            found |= {row["order_id"] for row in rows}
        return found

    async def move(self, order_id: UUID, *, expected: str, state: str) -> RingOrder:
        """Change a state by compare-and-set, then the tables that follow it.

        Raises Conflict if it is in neither of both states, NotFound if there is no such order,
        OutcomeUnknown (repeat it: a state that has been reached already is settled again).
        """
        swap = await self._ring.compare_and_set(
            "UPDATE order_by_id SET state = ? WHERE order_id = ? IF state = ?",
            (state, order_id, expected),
        )
        if not swap.applied and swap.found.get("state") is None:
            raise NotFound(f"there is no order {order_id}")
        if not swap.applied and swap.found["state"] != state:
            raise Conflict(f"order {order_id} is {swap.found['state']}, not {expected}")
        return await self.settle(order_id)

    async def settle(self, order_id: UUID) -> RingOrder:
        """Write the tables that follow `order_by_id` as it says now. Repeatable."""
        order = await self.by_id(order_id)
        await self._ring.write(
            "UPDATE orders_by_user SET state = ?"
            " WHERE user_id = ? AND month = ? AND placed_at = ? AND order_id = ?",
            (order.state, order.user_id, _month(order.placed_at), order.placed_at, order_id),
            level=Level.QUORUM,
        )
        if order.state != WAITING:
            await self._ring.write(
                "DELETE FROM waiting_by_day WHERE day = ? AND bucket = ? AND order_id = ?",
                (order.placed_at.date(), _bucket(order_id), order_id),
                level=Level.QUORUM,
            )
        return order


def whole_milliseconds(instant: datetime) -> datetime:
    """An instant as the ring will give it back."""
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def _order(row: Row) -> RingOrder:
    return RingOrder(
        row["order_id"],
        row["user_id"],
        _aware(row["placed_at"]),
        tuple(Line(*line) for line in row["lines"]),
        row["state"],
    )


def _head(row: Row) -> OrderHead:
    return OrderHead(row["order_id"], _aware(row["placed_at"]), row["state"], row["total_cents"])


def _stored(lines: Sequence[Line]) -> list[tuple[str, int, int]]:
    return [(line.sku, line.quantity, line.unit_cents) for line in lines]


def _bucket(order_id: UUID) -> int:
    return slot_for_key(str(order_id)) % BUCKETS


def _month(instant: datetime) -> str:
    return f"{instant:%Y-%m}"


def _aware(instant: datetime) -> datetime:
    """The driver gives instants in UTC, and does not say so."""
    return instant.replace(tzinfo=UTC)
