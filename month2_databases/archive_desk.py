"""The archive at work on a stack's history of orders: filled, moved, asked, tiered, restored.

The history is a database of its own beside the order book's, because an order book that was started
a minute ago has nothing that is cold. What happens to it is what would happen to any orders.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import date, datetime, timedelta
from random import Random
from typing import Any, Self
from uuid import UUID

from month2_databases.archive import (
    ALWAYS,
    AllOrders,
    Buckets,
    ColdPolicy,
    Mover,
    OrderRow,
    Rules,
    Span,
    TierRunner,
    cold_batches,
    insert_orders,
    schema,
)
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clients.s3 import ObjectStore, S3Settings
from scalelab.clock import Clock
from scalelab.errors import InvalidInput

BUCKETS = Buckets("cold-orders", "archived-orders")
MOST_ORDERS = 200_000
MOST_MONTHS = 120
_COUNTRIES = ("at", "ch", "de", "fr", "it")
_DAYS_OF_A_MONTH = 30


class ArchiveDesk:
    """The history in `dsn` and its files in `store`; an async context manager that makes both."""

    def __init__(self, dsn: str, store: S3Settings, *, clock: Clock) -> None:
        settings = PostgresSettings(dsn, statement_timeout_s=60.0, transaction_timeout_s=120.0)
        self._database = Database(settings, name="history")
        self._store = ObjectStore(store)
        self._clock = clock
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._database)
            await stack.enter_async_context(self._store)
            async with self._database.transaction() as conn:
                await conn.execute(schema().encode())
            for bucket in (BUCKETS.cold, BUCKETS.archive):
                await self._store.ensure_bucket(bucket)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()

    async def fill(self, orders: int, months: int, chance: Random) -> int:
        """Add `orders` ended orders, even over the last `months`; how many there are to see now.

        Raises InvalidInput beyond MOST_ORDERS or MOST_MONTHS.
        """
        if not 1 <= orders <= MOST_ORDERS:
            raise InvalidInput(f"orders are 1 to {MOST_ORDERS}", field="orders")
        if not 1 <= months <= MOST_MONTHS:
            raise InvalidInput(f"months are 1 to {MOST_MONTHS}", field="months")
        rows = past_orders(orders, months, self._clock.now(), chance)
        async with self._database.transaction() as conn:
            await insert_orders(conn, rows)
            found = await (await conn.execute("SELECT count(*) FROM orders")).fetchone()
        return 0 if found is None else int(found[0])

    async def move(self, hot_months: int) -> dict[str, int]:
        """Finish what was begun, then move all months that are cold. Raises as `Mover.run`."""
        policy = ColdPolicy(hot_months=hot_months)
        mover = Mover(self._database, self._store, BUCKETS.cold, policy, clock=self._clock)
        report = await mover.run()
        return {"files": report.files, "rows": report.rows, "bytes": report.bytes}

    async def ask(self, question: str, first: date | None, last: date | None) -> dict[str, Any]:
        """One SELECT over hot and cold `orders` alike. Raises as `AllOrders.ask`."""
        span = ALWAYS if first is None and last is None else Span(first, last)
        orders = AllOrders(self._database, self._store, BUCKETS.cold, clock=self._clock)
        answer = await orders.ask(question, span=span)
        return {
            "rows": answer.rows,
            "hot_rows": answer.hot_rows,
            "cold_rows": answer.cold_rows,
            "cold_files": answer.cold_files,
            "cold_bytes": answer.cold_bytes,
            "expired_rows": answer.expired_rows,
        }

    async def files(self) -> list[dict[str, Any]]:
        """What has left PostgreSQL, the oldest month first."""
        async with self._database.transaction(read_only=True) as conn:
            batches = await cold_batches(conn)
        return [
            {
                "file": batch.batch_id,
                "month": f"{batch.month:%Y-%m}",
                "rows": batch.manifest.rows,
                "bytes": batch.manifest.bytes,
                "tier": batch.placement.tier.value,
                "readable_from": restore.ready_at if restore else None,
                "readable_until": restore.until if restore else None,
            }
            for batch in sorted(batches, key=lambda one: (one.month, one.batch_id))
            for restore in (batch.placement.restore,)
            if batch.manifest is not None
        ]

    async def tiers(self, rules: Rules) -> dict[str, int]:
        """Do all that the rules ask for now; steps by kind."""
        done = await self._runner(rules).run()
        return {step.value: count for step, count in done.items()}

    async def restore(self, file: int, retrieval: str, keep: timedelta) -> dict[str, datetime]:
        """Ask for an archived file. Raises as `TierRunner.restore`."""
        promise = await self._runner(Rules()).restore(file, retrieval=retrieval, keep=keep)
        return {"ready_at": promise.ready_at, "until": promise.until}

    def _runner(self, rules: Rules) -> TierRunner:
        return TierRunner(self._database, self._store, BUCKETS, rules, clock=self._clock)


def past_orders(count: int, months: int, now: datetime, chance: Random) -> list[OrderRow]:
    """So many ended orders, even over `months` of thirty days before `now`. Pure."""
    return [
        OrderRow(
            order_id=UUID(int=chance.getrandbits(128)),
            user_id=f"user-{chance.randrange(1 + count // 10)}",
            country=chance.choice(_COUNTRIES),
            amount_cents=chance.randrange(100, 50_000),
            state="confirmed",
            placed_at=now - timedelta(days=chance.random() * _DAYS_OF_A_MONTH * months),
        )
        for _ in range(count)
    ]
