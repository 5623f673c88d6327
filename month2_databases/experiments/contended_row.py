"""One row that many change at once, in five ways: how many tries, and how many changes are lost?

The hopeful and the versions go in lockstep: all read before anyone writes, again for those who have
to begin again. So of n callers exactly n - 1 hopeful changes are lost, and versions take
n + (n - 1) + … + 1 tries, on any machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random

from psycopg import AsyncConnection

from month2_databases.patterns import (
    STOCK_TABLE,
    AppendedTotals,
    Isolation,
    Statement,
    Steps,
    Stock,
    Transactions,
    lock,
    read,
    write,
)
from scalelab.clients.postgres import Database
from scalelab.errors import Conflict
from scalelab.resilience.backoff import BudgetPolicy
from scalelab.resilience.retry import RetryPolicy

_BEGIN_WITH = 1_000
_PATIENT = RetryPolicy(attempts=100, budget=BudgetPolicy(ratio=100.0, reserve=1000.0))


@dataclass(frozen=True, slots=True)
class Changed:
    """tries: to get every caller's change done. lost: changes that were told done and are not."""

    tries: int
    lost: int


Change = Callable[[Database, int], Awaitable[int]]
"""So many callers each take one away at once; tries."""


async def change_at_once(
    database: Database, conn: AsyncConnection, callers_at_once: Sequence[int], random: Random
) -> dict[str, dict[int, Changed]]:
    """By way and by number of callers, each of whom takes one of a stock away."""
    transactions = Transactions(database, random=random, policy=_PATIENT)
    totals = AppendedTotals(database)
    await totals.define()
    await conn.execute(STOCK_TABLE)

    async def rerun(_database: Database, callers: int) -> int:
        level = Isolation.REPEATABLE_READ
        done = await asyncio.gather(
            *(transactions.run(_take, isolation=level) for _ in range(callers))
        )
        return sum(one.tries for one in done)

    async def append(_database: Database, callers: int) -> int:
        await asyncio.gather(*(totals.add("tea", -1) for _ in range(callers)))
        return callers

    ways: dict[str, Change] = {
        "read, then write": _hoping,
        "by version": _by_version,
        "by row lock": _by_lock,
        "run again on 40001": rerun,
        "appended": append,
    }
    changed: dict[str, dict[int, Changed]] = {}
    for name, way in ways.items():
        for callers in callers_at_once:
            await conn.execute("TRUNCATE stock, total_added, total_folded")
            await conn.execute("INSERT INTO stock VALUES ('tea', %s)", (_BEGIN_WITH,))
            tries = await way(database, callers)
            left = (await read(conn, "tea")).on_hand + await totals.total("tea")
            lost = left - (_BEGIN_WITH - callers)
            changed.setdefault(name, {})[callers] = Changed(tries, lost)
    return changed


def _take() -> Steps[None]:
    held = yield Statement("SELECT on_hand FROM stock WHERE sku = 'tea'")
    yield Statement("SELECT pg_sleep(0.01)")
    yield Statement("UPDATE stock SET on_hand = %s WHERE sku = 'tea'", (held.rows[0][0] - 1,))


async def _hoping(database: Database, callers: int) -> int:
    """All read, then all write what they worked out."""

    async def put(seen: Stock) -> None:
        async with database.autocommit() as conn:
            await conn.execute(
                "UPDATE stock SET on_hand = %s WHERE sku = %s", (seen.on_hand - 1, seen.sku)
            )

    await asyncio.gather(*map(put, await _all_read(database, callers)))
    return callers


async def _by_version(database: Database, callers: int) -> int:
    """All read, then all write if it is still so; the losers do both again."""
    tries = 0
    while callers:
        tries += callers
        seen = await _all_read(database, callers)
        callers -= sum(await asyncio.gather(*(_written(database, one) for one in seen)))
    return tries


async def _all_read(database: Database, callers: int) -> list[Stock]:
    async def one() -> Stock:
        async with database.autocommit(read_only=True) as conn:
            return await read(conn, "tea")

    return list(await asyncio.gather(*(one() for _ in range(callers))))


async def _written(database: Database, seen: Stock) -> bool:
    async with database.autocommit() as conn:
        try:
            await write(conn, seen, seen.on_hand - 1)
        except Conflict:
            return False
    return True


async def _by_lock(database: Database, callers: int) -> int:
    async def one() -> None:
        async with database.transaction() as conn:
            held = (await lock(conn, ["tea"], wait_s=60.0))["tea"]
            await write(conn, held, held.on_hand - 1)

    await asyncio.gather(*(one() for _ in range(callers)))
    return callers
