"""Slots of the orders change their shard, there and back, while orders are placed and end."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest

from month2_databases.resharding import MoverSettings, move_slots, shards_and_moves
from month3_messaging.orders import MOVING_TABLES, STAYING_TABLE, UNSENT_WHILE_NULL
from scalelab.clients.kafka import ensure_topics
from scalelab.hashing import slot_for_key
from scalelab.ids import slot_of
from scalelab.lab.servers import Postgres
from tests.integration.month6.orders.conftest import Shop
from tests.integration.month6.orders.test_orders_processes import (
    answer_orders,
    poll_until,
    shard_of,
)

pytestmark = pytest.mark.timeout(300)


@dataclass
class Customers:
    """Users who order one thing after the other. placed: order id by (user, key)."""

    shop: Shop
    users: list[str]
    placed: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    seen: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @asynccontextmanager
    async def ordering(self, bootstrap: str) -> AsyncIterator[None]:
        """They order inside the block, and payments and inventory answer until all is done."""
        stop, done = asyncio.Event(), asyncio.Event()
        peers = asyncio.create_task(
            answer_orders(
                self.shop,
                bootstrap,
                lambda event: (
                    event.data.get("user_id") in self.users or event.subject in self.placed.values()
                ),
                done,
                seen=self.seen,
            )
        )
        try:
            async with asyncio.TaskGroup() as group:
                for user in self.users:
                    group.create_task(self._order(user, stop))
                try:
                    yield
                finally:
                    stop.set()
            await poll_until(self._all_ended, "every order has ended and every event is sent")
        finally:
            done.set()
            await peers

    async def more(self, number: int) -> None:
        """Wait until each user has placed so many more orders."""
        before = Counter(user for user, _ in self.placed)
        while True:
            now = Counter(user for user, _ in self.placed)
            if all(now[user] >= before[user] + number for user in self.users):
                return
            await asyncio.sleep(0.05)

    async def _order(self, user: str, stop: asyncio.Event) -> None:
        for turn in itertools.count():
            if stop.is_set():
                return
            self.placed[user, f"key-{turn}"] = await self.place(user, f"key-{turn}")
            await asyncio.sleep(0.02)

    async def place(self, user: str, key: str) -> str:
        """The order's id. Whoever is put off (503, Retry-After) comes again with the same key."""
        while True:
            answer = await self.shop.place(user, key)
            if answer.status == 202:
                return (await answer.json())["order_id"]
            assert answer.status == 503, await answer.text()
            assert answer.headers["Retry-After"].isdigit()
            await asyncio.sleep(0.2)

    def _all_ended(self) -> bool:
        return all(
            self.shop.rows(shard, "SELECT count(*) FROM saga WHERE ended_at IS NULL") == [(0,)]
            and self.shop.rows(shard, "SELECT count(*) FROM outbox WHERE sent_at IS NULL") == [(0,)]
            for shard in self.shop.dsns
        )


def customers_of(shop: Shop) -> Customers:
    """Two users of each shard whom no other test knows."""
    found: dict[str, list[str]] = {"shard-0": [], "shard-1": []}
    while any(len(users) < 2 for users in found.values()):
        user = f"user-{uuid4()}"
        found[shard_of(user)].append(user)
    return Customers(shop, [*found["shard-0"][:2], *found["shard-1"][:2]])


def mover_of(shop: Shop, postgres_server: Postgres, map_dsn: str) -> MoverSettings:
    return MoverSettings(
        maps=map_dsn,
        shards={
            name: postgres_server.superuser_dsn(dsn.rpartition("/")[2])
            for name, dsn in shop.dsns.items()
        },
        tables=",".join(MOVING_TABLES),
        emptied=f"{STAYING_TABLE}:{UNSENT_WHILE_NULL}",
        grace_s=0.5,
    )


async def test_orders_are_placed_and_end_while_their_slots_move(
    shop: Shop, postgres_server: Postgres, database_dsn: str, kafka_bootstrap: str
) -> None:
    """Every key made one order, each order ended once on its shard, and its events left in order;
    a key from before the move is answered as it was, and the order is read where it is now."""
    await ensure_topics(kafka_bootstrap, {"orders.order": 6, **dict.fromkeys(topics(shop), 2)})
    mover = mover_of(shop, postgres_server, database_dsn)
    customers = customers_of(shop)
    going = [user for user in customers.users if shard_of(user) == "shard-0"]
    slots = ",".join(str(slot_for_key(user)) for user in going)
    async with customers.ordering(kafka_bootstrap):
        await customers.more(2)
        there = await move_slots(mover, slots, "shard-1")
        assert (there["step"], there["reason"]) == ("done", "")
        assert {
            shop.rows("shard-0", f"SELECT FROM {table} WHERE slot IN ({slots})") == []
            for table in MOVING_TABLES
        } == {True}
        await customers.more(2)
        first = customers.placed[going[0], "key-0"]
        assert await customers.place(going[0], "key-0") == first
        read = await shop.get(f"{shop.url}/api/v1/orders/{first}", going[0])
        assert (read.status, read.headers["X-Shard"]) == (200, "shard-1")
        back = await move_slots(mover, slots, "shard-0")
        assert (back["step"], back["reason"]) == ("done", "")
        await customers.more(1)
    judge(customers)
    told = await shards_and_moves(mover)
    assert told["claimed"] == {"shard-0": "0-127", "shard-1": "128-255"}


def judge(customers: Customers) -> None:
    """Nothing is lost, doubled, out of order or on another shard than its slot."""
    shop, placed = customers.shop, customers.placed
    assert len(set(placed.values())) == len(placed)
    rows = {
        (shard, str(order_id)): slot
        for shard in shop.dsns
        for order_id, slot in shop.rows(shard, "SELECT order_id, slot FROM orders")
    }
    assert sorted(order_id for _, order_id in rows) == sorted(placed.values())
    for (shard, order_id), slot in rows.items():
        assert slot == slot_of(UUID(order_id))
        assert shard == ("shard-0" if slot < 128 else "shard-1")
        history = shop.rows(
            shard,
            f"SELECT status FROM order_history WHERE order_id = '{order_id}' ORDER BY version",
        )
        statuses = [status for (status,) in history]
        assert statuses == ["pending", "paid", "stock_reserved", "confirmed"], order_id
    events = [
        event_id for one in shop.dsns for event_id in shop.rows(one, "SELECT event_id FROM outbox")
    ]
    assert len(events) == len(set(events)) == 3 * len(placed)
    for order_id in placed.values():
        kinds = [kind.split(".")[2] for kind in customers.seen[order_id]]
        assert kinds == ["placed", "paid", "confirmed"], order_id


def topics(shop: Shop) -> list[str]:
    return list(shop.topics.values())
