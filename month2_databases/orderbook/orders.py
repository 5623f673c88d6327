"""The order book's statements, each on the one server that has the rows; and one that asks all.

A write goes to the primary of the user's shard; its token makes the next read see it. A listing
of the newest orders has no shard key: it asks every shard at once and merges.
"""

from __future__ import annotations

import asyncio
import heapq
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from month2_databases.orderbook.order import NewOrder, Order, check_user, order_of
from month2_databases.sharding import ReadSession, ShardRouter
from scalelab.clock import Clock
from scalelab.errors import IdempotencyMismatch, NotFound
from scalelab.ids import RandomBits

_COLUMNS = "order_id, slot, user_id, amount_cents, placed_at"


@dataclass(frozen=True, slots=True)
class Placed:
    """A write's result. replayed: the key had stored this order before."""

    order: Order
    replayed: bool
    shard: str
    token: str | None


@dataclass(frozen=True, slots=True)
class Read:
    """What was read, and where: the answer's headers say so."""

    orders: Sequence[Order]
    shard: str
    server: str
    role: str
    reason: str


class OrderBook:
    """Orders over the shards of `router`, whose lifetime is the caller's."""

    def __init__(
        self, router: ShardRouter, clock: Clock, random_bits: RandomBits = secrets.randbits
    ) -> None:
        self._router = router
        self._clock = clock
        self._random_bits = random_bits

    async def place(self, new: NewOrder, key: str) -> Placed:
        """Store the order once for this idempotency key, or find what it stored before.

        The key stands in the order's own row: it moves along when the user's slot moves.
        Raises IdempotencyMismatch, Unavailable, or OutcomeUnknown if the commit was not answered:
        ask again with the same key.
        """
        order = order_of(new, self._clock.now(), self._random_bits)
        session = self._router.session_for_user(new.user_id)
        async with session as conn:
            stored = await insert(conn, order, key)
            if not stored:
                tail = "WHERE user_id = %(user)s AND idempotency_key = %(key)s"
                (first,) = await _select(conn, tail, {"user": new.user_id, "key": key})
                if first.amount_cents != new.amount_cents:
                    raise IdempotencyMismatch("This Idempotency-Key was used with another request.")
                order = first
        return Placed(order, not stored, session.shard, session.token)

    async def order(self, order_id: UUID, token: str | None) -> Read:
        """One order by its id alone. Raises NotFound, InvalidInput for an id made elsewhere."""
        session = self._router.read_session(order_id=order_id, token=token)
        async with session as conn:
            orders = await _select(conn, "WHERE order_id = %(id)s", {"id": order_id})
        if not orders:
            raise NotFound(f"There is no order {order_id}.")
        return _read(orders, session)

    async def of_user(self, user_id: str, token: str | None, limit: int) -> Read:
        """The newest orders of a user, on one shard."""
        session = self._router.read_session(user_id=check_user(user_id), token=token)
        async with session as conn:
            tail = "WHERE user_id = %(user)s ORDER BY order_id DESC LIMIT %(limit)s"
            orders = await _select(conn, tail, {"user": user_id, "limit": limit})
        return _read(orders, session)

    async def newest(self, limit: int) -> list[Order]:
        """The newest orders of all users: every primary is asked for `limit`, the answers merged.

        Raises Unavailable if a shard is away: a listing with a hole would look complete.
        """
        tail = "ORDER BY order_id DESC LIMIT %(limit)s"

        async def ask(shard: str) -> list[Order]:
            database = self._router.primaries[shard]
            async with database.autocommit(read_only=True) as conn:
                return await _select(conn, tail, {"limit": limit})

        answers = await asyncio.gather(*map(ask, self._router.primaries))
        merged = heapq.merge(*answers, key=lambda order: order.order_id.int, reverse=True)
        return [order for order, _ in zip(merged, range(limit), strict=False)]

    async def counts(self) -> dict[str, int]:
        """Orders on each shard."""

        async def ask(shard: str) -> int:
            async with self._router.primaries[shard].autocommit(read_only=True) as conn:
                cursor = conn.cursor(row_factory=tuple_row)
                await cursor.execute("SELECT count(*) FROM orders")
                row = await cursor.fetchone()
            return row[0] if row else 0

        names = list(self._router.primaries)
        return dict(zip(names, await asyncio.gather(*map(ask, names)), strict=True))


async def insert(conn: AsyncConnection[Any], order: Order, key: str) -> bool:
    """Add the row; False if the user's key has stored one before. Two at once take turns."""
    cursor = await conn.execute(
        "INSERT INTO orders (order_id, slot, user_id, amount_cents, placed_at, idempotency_key)"
        " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (user_id, idempotency_key) DO NOTHING",
        (order.order_id, order.slot, order.user_id, order.amount_cents, order.placed_at, key),
    )
    return cursor.rowcount == 1


def shown(order: Order) -> dict[str, object]:
    """The order as the API shows it."""
    return {
        "order_id": str(order.order_id),
        "user_id": order.user_id,
        "amount_cents": order.amount_cents,
        "slot": order.slot,
        "placed_at": order.placed_at.isoformat(),
    }


async def _select(
    conn: AsyncConnection[Any], tail: str, parameters: Mapping[str, object]
) -> list[Order]:
    cursor = conn.cursor(row_factory=tuple_row)
    statement = f"SELECT {_COLUMNS} FROM orders {tail}"  # noqa: S608 -- tails of this module
    await cursor.execute(statement.encode(), parameters)
    return [Order(*row) for row in await cursor.fetchall()]


def _read(orders: Sequence[Order], session: ReadSession) -> Read:
    return Read(
        orders, session.shard, session.server_name, session.role.value, session.reason.value
    )
