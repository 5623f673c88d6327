"""Two ways to change what one has read, on the stock of a shop: hope, or hold.

    optimistic    read a row with its version; write it if the version is still the same. Nobody
                  waits, the loser is told and begins again. For rows that are seldom contended,
                  and where a person or another service thinks between the read and the write.
    pessimistic   lock the row, then read it. The others wait, in line, for at most `wait_s`. For
                  rows that many want, because waiting is cheaper than doing the work again.

Invariants (tests cite them)
    L1  A write on a version that is no longer the row's changes nothing: version_conflict.
    L2  Who locks several rows locks them in the order of their keys, so two who do never deadlock.
    L3  A wait that is too long ends as lock_timeout, and the transaction has changed nothing.

The functions take a connection inside the caller's transaction: locks live as long as that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import AsyncConnection

from scalelab.errors import Conflict, InvalidInput, NotFound

TABLE = """
CREATE TABLE IF NOT EXISTS stock (
    sku text PRIMARY KEY,
    on_hand int NOT NULL CHECK (on_hand >= 0),
    version bigint NOT NULL DEFAULT 1
)
"""


@dataclass(frozen=True, slots=True)
class Stock:
    """A row as it was read. version: grows by one with each change."""

    sku: str
    on_hand: int
    version: int


async def read(conn: AsyncConnection, sku: str) -> Stock:
    """The row, unlocked. Raises NotFound."""
    cursor = await conn.execute("SELECT sku, on_hand, version FROM stock WHERE sku = %s", (sku,))
    row = await cursor.fetchone()
    if row is None:
        raise NotFound(f"there is no stock of {sku}")
    return Stock(*row)


async def write(conn: AsyncConnection, seen: Stock, on_hand: int) -> Stock:
    """Set what is on hand, if the row is still as it was seen; the row as it is now.

    Raises Conflict (version_conflict) if it is not, or is gone: read it again (L1).
    """
    cursor = await conn.execute(
        "UPDATE stock SET on_hand = %s, version = version + 1 WHERE sku = %s AND version = %s"
        " RETURNING sku, on_hand, version",
        (on_hand, seen.sku, seen.version),
    )
    row = await cursor.fetchone()
    if row is None:
        raise Conflict(
            f"{seen.sku} is not at version {seen.version} any more", code="version_conflict"
        )
    return Stock(*row)


async def lock(conn: AsyncConnection, skus: Iterable[str], *, wait_s: float) -> dict[str, Stock]:
    """The rows, locked until the transaction ends, in the order of their keys (L2).

    wait_s: for each row, > 0. Raises SerializationFailure (lock_timeout) after it (L3), NotFound
    if one is missing; what was locked is let go with the transaction.
    """
    wanted = sorted(set(skus))
    if wait_s <= 0:
        raise InvalidInput("a wait of 0 would mean for ever to the server", field="wait_s")
    await conn.execute(
        "SELECT set_config('lock_timeout', %s, true)", (f"{max(1, round(wait_s * 1000))}ms",)
    )
    cursor = await conn.execute(
        "SELECT sku, on_hand, version FROM stock WHERE sku = ANY(%s)"
        ' ORDER BY sku COLLATE "C" FOR UPDATE',
        (wanted,),
    )
    found = {row[0]: Stock(*row) for row in await cursor.fetchall()}
    missing = [sku for sku in wanted if sku not in found]
    if missing:
        raise NotFound(f"there is no stock of {', '.join(missing)}")
    return found
