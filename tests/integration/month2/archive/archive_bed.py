"""Orders of many months, a database and two buckets for them, and what damages a file."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg

from month2_databases.archive import (
    AllOrders,
    Buckets,
    ColdPolicy,
    Mover,
    OrderRow,
    Rules,
    TierRunner,
    insert_orders,
    schema,
)
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clients.s3 import ObjectStore, S3Settings
from scalelab.clock import ManualClock
from scalelab.lab.servers import VersityGw

NOW = datetime(2026, 6, 15, tzinfo=UTC)
COUNTRIES = ("at", "de", "fr")


def make_orders(count: int, *, months: int = 8, seed: int = 1, state: str = "") -> list[OrderRow]:
    """Orders of the months up to NOW, evenly, one in ten still open unless `state` says."""
    chance = random.Random(seed)
    made: list[OrderRow] = []
    for index in range(count):
        placed_at = NOW - timedelta(days=30 * (index % months) + chance.random() * 29)
        made.append(
            OrderRow(
                order_id=UUID(int=chance.getrandbits(128)),
                user_id=f"user-{index % 20}",
                country=COUNTRIES[index % 3],
                amount_cents=chance.randrange(100, 10_000),
                state=state or ("pending" if index % 10 == 9 else "confirmed"),
                placed_at=placed_at.replace(microsecond=index % 1_000_000),
            )
        )
    return made


@dataclass(frozen=True, slots=True)
class Bed:
    """A database with orders and a store. every: all orders ever inserted, by id."""

    dsn: str
    database: Database
    store: ObjectStore
    server: VersityGw
    buckets: Buckets
    clock: ManualClock
    every: dict[UUID, OrderRow]

    def mover(
        self,
        *,
        rows: int = 40,
        store: ObjectStore | None = None,
        bucket: str | None = None,
        at: Callable[[str], None] = lambda step: None,
    ) -> Mover:
        """A mover with small files."""
        return Mover(
            self.database,
            store or self.store,
            bucket or self.buckets.cold,
            ColdPolicy(hot_months=2, batch_rows=rows),
            clock=self.clock,
            at=at,
        )

    def orders(self) -> AllOrders:
        """The joint query."""
        return AllOrders(self.database, self.store, self.buckets.cold, clock=self.clock)

    def tiers(
        self, rules: Rules | None = None, at: Callable[[str], None] = lambda step: None
    ) -> TierRunner:
        """The lifecycle."""
        return TierRunner(
            self.database, self.store, self.buckets, rules or Rules(), clock=self.clock, at=at
        )

    def hot_ids(self) -> set[UUID]:
        """Ids in PostgreSQL now."""
        with psycopg.connect(self.dsn) as conn:
            return {found[0] for found in conn.execute("SELECT order_id FROM orders")}

    async def add(self, rows: list[OrderRow]) -> None:
        """Insert orders and remember them."""
        async with self.database.transaction() as conn:
            await insert_orders(conn, rows)
        self.every.update((row.order_id, row) for row in rows)

    async def every_order_once(self) -> None:
        """The joint query holds each order exactly once, as it was inserted."""
        found = await self.orders().ask("SELECT order_id, amount_cents, state FROM orders")
        assert len(found.rows) == len(self.every)
        there = {UUID(one["order_id"]): (one["amount_cents"], one["state"]) for one in found.rows}
        assert there == {key: (one.amount_cents, one.state) for key, one in self.every.items()}


def settings_of(server: VersityGw) -> S3Settings:
    """Settings for a client of this server, with the keys of its root user."""
    return S3Settings(server.endpoint, server.access_key, server.secret_key, read_timeout_s=30.0)


@asynccontextmanager
async def open_bed(dsn: str, server: VersityGw, name: str, orders: int) -> AsyncGenerator[Bed]:
    """So many orders of eight months in an empty database; nothing is cold yet."""
    buckets = Buckets(f"{name}-cold", f"{name}-archive")
    async with (
        Database(PostgresSettings(dsn, transaction_timeout_s=60.0), name="orders") as database,
        ObjectStore(settings_of(server)) as store,
    ):
        async with database.transaction() as conn:
            await conn.execute(schema().encode())
        for bucket in (buckets.cold, buckets.archive):
            await store.ensure_bucket(bucket)
        bed = Bed(dsn, database, store, server, buckets, ManualClock(start=NOW), {})
        await bed.add(make_orders(orders))
        yield bed


def files_of(bed: Bed) -> list[Path]:
    """The stored Parquet files in the server's own folder, for faults."""
    return sorted((bed.server.objects / bed.buckets.cold).rglob("*.parquet"))


def flip_bit(path: Path) -> None:
    """Change one bit in the middle of a file; its length stays."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
