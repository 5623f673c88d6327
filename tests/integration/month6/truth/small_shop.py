"""A small shop on real stores: the real use cases, driven one event at a time.

Two shards, payments, inventory, a provider over HTTP and Kafka. Orders, payments and inventory run
their own code; only the pacing (relay, consumers) is done by hand, so that a test decides what has
happened when the books are read.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict

import month6_capstone.inventory
import month6_capstone.payments
from month2_databases.sharding import StoredMap, admit, even, set_up_shard
from month3_messaging.broker import Event, from_wire
from month3_messaging.orders import (
    FACTS,
    MIGRATIONS,
    MOVING_TABLES,
    SLOT,
    CatalogPrices,
    InventoryHolds,
    Placement,
    PlaceOrder,
    Price,
    ReadSession,
    SagaEffects,
    Sessions,
    WriteSession,
    order_saga,
)
from month6_capstone.inventory.holds import open_hold, set_stock, sweep
from month6_capstone.inventory.orders import CANCELLED, OVER, PAID, release, reserve
from month6_capstone.inventory.orders import Desk as StockDesk
from month6_capstone.inventory.stock import Line
from month6_capstone.load import Attempt, ClientLog
from month6_capstone.payments.capture import capture
from month6_capstone.payments.desk import Desk
from month6_capstone.payments.messages import PLACED
from month6_capstone.payments.provider import CHARGES_THEN_HANGS, DECLINED, PAYS
from month6_capstone.payments.provider_client import ProviderClient
from month6_capstone.payments.refund import give_back
from scalelab.clients.http import HttpClient
from scalelab.clients.kafka import Message
from scalelab.clients.migrations import upgrade
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import Clock, ManualClock, SystemClock
from scalelab.errors import OutcomeUnknown
from scalelab.hashing.slots import slot_for_key
from scalelab.ids import slot_of
from tests.integration.month6.payments.running_provider import provider_on

DATABASES = ("shard-0", "shard-1", "payments", "inventory")
USERS = next(
    (one, other)
    for one in ("ada", "bob", "cem", "dee")
    for other in ("eva", "fay", "gus", "hal")
    if slot_for_key(one) < 128 <= slot_for_key(other)
)
"""A user of each shard."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All stores of a shop at rest. orders: what became of them, by a name."""

    dsns: dict[str, str]
    book: bytes
    client_log: bytes
    records: tuple[Message, ...]
    orders: dict[str, str]


class Catalog:
    """Prices without a catalog service."""

    async def prices(self, product_ids: Sequence[str]) -> dict[str, Price]:
        return {product_id: Price(250, "EUR") for product_id in product_ids}


class Holds:
    """Holds without HTTP in between."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def hold(self, hold_id: UUID, user_id: str, lines: Sequence[Any]) -> None:
        wanted = [Line(line.product_id, line.quantity) for line in lines]
        await open_hold(
            self._database, self._clock, hold_id=hold_id, user_id=user_id, lines=wanted, ttl_s=60
        )


class SmallShop:
    """The composed services of one test."""

    def __init__(
        self, databases: dict[str, Database], http: HttpClient, clock: Clock, log: ClientLog
    ) -> None:
        self.databases = databases
        self._clock = clock
        self._log = log
        saga = order_saga(payment_time_limit_s=30)
        sessions = self._sessions()
        self._placement = Placement(
            saga,
            sessions,
            cast("CatalogPrices", Catalog()),
            cast("InventoryHolds", Holds(databases["inventory"], clock)),
            clock,
        )
        self.saga = SagaEffects(saga, sessions, clock)
        self.payments = Desk(databases["payments"], ProviderClient(http), clock)
        self.stock = StockDesk(databases["inventory"], clock)
        self.records: list[Message] = []

    def _sessions(self) -> Sessions:
        @asynccontextmanager
        async def on(slot: int) -> AsyncGenerator[WriteSession]:
            name = "shard-0" if slot < 128 else "shard-1"
            async with self.databases[name].transaction() as conn:
                await admit(conn, slot, map_version=1)
                yield WriteSession(conn, name)

        @asynccontextmanager
        async def read(slot: int) -> AsyncGenerator[ReadSession]:
            async with on(slot) as session:
                yield ReadSession(session.conn, session.shard, "primary")

        return Sessions(
            for_order=lambda order_id: on(slot_of(order_id)),
            for_user=lambda user_id: on(slot_for_key(user_id)),
            read_order=lambda order_id, _token: read(slot_of(order_id)),
            read_user=lambda user_id, _token: read(slot_for_key(user_id)),
        )

    async def place(
        self, user_id: str, *, card: str = PAYS, product_id: str = "p-1", lost_answer: bool = False
    ) -> str:
        """Place an order and log what the shopper was told, which may be nothing."""
        key = uuid4().hex
        body = PlaceOrder.model_validate(
            {"lines": [{"product_id": product_id, "quantity": 2}], "card_token": card}
        )
        placed = await self._placement.place(user_id, key, body)
        order_id = json.loads(placed.answer.body)["order_id"]
        if lost_answer:
            self._log.write(Attempt("t", user_id, key, 1, "unknown", None, None, "sha"))
        else:
            self._log.write(Attempt("t", user_id, key, 1, "accepted", 202, order_id, "sha"))
        return order_id

    async def pump(self) -> None:
        """Carry events from outboxes to consumers until nothing is left."""
        while events := [e for name in DATABASES for e in await self._relay(name)]:
            for event in events:
                await self._deliver(event)

    async def _relay(self, name: str) -> list[Event]:
        async with self.databases[name].transaction() as conn:
            cursor = await conn.execute(
                "UPDATE outbox SET sent_at = now() WHERE sent_at IS NULL"
                " RETURNING id, topic, key, headers, value::text"
            )
            rows = sorted(await cursor.fetchall())
        sent = [
            Message(topic, key, value.encode(), headers) for _, topic, key, headers, value in rows
        ]
        self.records += sent
        return [from_wire(dict(one.headers), one.value) for one in sent]

    async def _deliver(self, event: Event) -> None:
        if event.type == PLACED:
            try:
                await capture(self.payments, event)
            except OutcomeUnknown:
                await capture(self.payments, event)
        if event.type == CANCELLED:
            await give_back(self.payments, event)
        if event.type == PAID:
            await reserve(self.stock, event)
        if event.type in OVER:
            await release(self.stock, event)
        if event.type in FACTS:
            await self.saga.on_event(event)


async def build(dsns: dict[str, str], folder: Path) -> Snapshot:
    """Every end an order can have, on both shards, by the services' own code."""
    scripts = {
        "payments": Path(month6_capstone.payments.__file__).parent / "migrations",
        "inventory": Path(month6_capstone.inventory.__file__).parent / "migrations",
    }
    for name, dsn in dsns.items():
        upgrade(dsn, scripts.get(name, MIGRATIONS))
    stored = StoredMap(even(["shard-0", "shard-1"]))
    for name in stored.shard_map.shards:
        async with await psycopg.AsyncConnection.connect(dsns[name]) as conn:
            await set_up_shard(conn, name, dict.fromkeys(MOVING_TABLES, SLOT), stored)
    clock = ManualClock(start=SystemClock().now())
    async with AsyncExitStack() as stack:
        databases = {
            name: await stack.enter_async_context(Database(PostgresSettings(dsn), name=name))
            for name, dsn in dsns.items()
        }
        provider = await stack.enter_async_context(provider_on(folder / "book.jsonl"))
        http = await stack.enter_async_context(HttpClient(provider.url, timeout_s=2))
        log = stack.enter_context(ClientLog(folder / "client.jsonl"))
        shop = SmallShop(databases, http, clock, log)
        orders = await _sell(shop, databases["inventory"], clock)
        records = tuple(shop.records)
    book = (folder / "book.jsonl").read_bytes()
    client_log = (folder / "client.jsonl").read_bytes()
    return Snapshot(dsns, book, client_log, records, orders)


async def _sell(shop: SmallShop, inventory: Database, clock: ManualClock) -> dict[str, str]:
    for product_id in ("p-1", "p-rare"):
        await set_stock(inventory, product_id, 100)
    one, other = USERS
    orders = {
        "sold": await shop.place(one),
        "sold_after_silence": await shop.place(other, card=CHARGES_THEN_HANGS),
        "unanswered": await shop.place(other, lost_answer=True),
        "declined": await shop.place(one, card=DECLINED),
        "sold_out": await shop.place(other, product_id="p-rare"),
    }
    clock.advance(60)
    await sweep(inventory, clock, batch=100)
    await set_stock(inventory, "p-rare", 1)
    await shop.pump()
    orders["timed_out"] = await shop.place(one)
    clock.advance(31)
    for name in ("shard-0", "shard-1"):
        await shop.saga.sweep(shop.databases[name].transaction)
    await shop.pump()
    return orders


def clone(superuser_dsn: str, source_dsn: str) -> str:
    """A copy of a database nobody is connected to; returns its DSN."""
    source = conninfo_to_dict(source_dsn)["dbname"]
    name = f"c_{uuid4().hex[:16]}"
    with psycopg.connect(superuser_dsn, autocommit=True) as conn:
        conn.execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}"'.encode())
    return superuser_dsn.rpartition("/")[0] + "/" + name
