"""The orders service and its worker on two shards, with a real Kafka between them and the rest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from month2_databases.sharding import even
from month3_messaging.broker import Event, from_wire, to_headers, to_value
from scalelab.clients.kafka import ensure_topics, open_consumer, open_producer
from scalelab.hashing import slot_for_key
from scalelab.ids import slot_of
from tests.integration.month6.orders.conftest import Shop, open_shop

DEADLINE_S = 60.0
SHARDS = even(["shard-0", "shard-1"])
USERS = [f"user-{n}" for n in range(8)]


def shard_of(user: str) -> str:
    return SHARDS.shard_of(slot_for_key(user))


async def poll_until(holds: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - a server's state
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"not within {DEADLINE_S} s: {what}")


async def place_all(shop: Shop) -> dict[str, str]:
    """One order per user; order id by user."""
    orders: dict[str, str] = {}
    for user in USERS:
        answer = await shop.place(user, "key-1")
        assert answer.status == 202, await answer.text()
        orders[user] = (await answer.json())["order_id"]
    return orders


async def test_orders_live_on_their_users_shard_and_are_read_there(shop: Shop) -> None:
    """The id carries the user's slot; headers name the shard; the token is taken back."""
    assert {shard_of(user) for user in USERS} == {"shard-0", "shard-1"}
    orders = await place_all(shop)
    for user, order_id in orders.items():
        assert slot_of(UUID(order_id)) == slot_for_key(user)
        read = await shop.get(f"{shop.url}/api/v1/orders/{order_id}", user)
        assert read.status == 200
        assert read.headers["X-Shard"] == shard_of(user)
        assert read.headers["X-DB-Role"] == "primary"
    for shard in ("shard-0", "shard-1"):
        rows = shop.rows(shard, "SELECT user_id, order_id::text FROM orders")
        assert dict(rows) == {u: o for u, o in orders.items() if shard_of(u) == shard}
    again = await shop.place(USERS[0], "key-1")
    assert (await again.json())["order_id"] == orders[USERS[0]]
    token = again.headers["X-Consistency-Token"]
    path = f"{shop.url}/api/v1/orders/{orders[USERS[0]]}"
    for text in (token, token + "x", "forged"):
        read = await shop.get(path, USERS[0], **{"X-Consistency-Token": text})
        assert read.status == 200
    assert all(bearer.startswith("Bearer ey") for bearer in shop.peers.bearers)


async def answer_orders(
    shop: Shop,
    bootstrap: str,
    is_ours: Callable[[Event], bool],
    until: asyncio.Event,
    *,
    seen: Mapping[str, list[str]] | None = None,
) -> None:
    """Payments and inventory as far as the orders see them: every charge and hold succeeds.

    is_ours: whether the event is about an order of this test. seen: by order, the types of the
    events in the order in which the first copy of each came; to be filled here.
    """
    known: set[UUID] = set()
    async with (
        open_producer(bootstrap, "peers") as producer,
        open_consumer(bootstrap, f"peers-{uuid4()}", ["orders.order"]) as consumer,
    ):
        while not until.is_set():
            for record in await consumer.getmany(timeout_ms=100):
                event = from_wire(record.headers, record.value)
                if not is_ours(event) or event.id in known:
                    continue
                known.add(event.id)
                if seen is not None:
                    seen[event.subject].append(event.type)
                about = {"order_id": event.subject}
                if event.type == "orders.order.placed.v1":
                    topic, kind = shop.topics["payments"], "payments.payment.captured.v1"
                    about |= {"amount_minor": event.data["total_minor"], "currency": "EUR"}
                elif event.type == "orders.order.paid.v1":
                    topic, kind = shop.topics["stock"], "inventory.stock.reserved.v1"
                else:
                    continue
                reply = Event(
                    uuid4(),
                    kind,
                    "/test",
                    event.subject,
                    datetime.now(UTC),
                    about,
                    traceparent=event.traceparent,
                )
                for _ in range(2):
                    await producer.send(topic, event.subject, to_value(reply), to_headers(reply))


async def test_orders_reach_their_end_through_kafka(shop: Shop, kafka_bootstrap: str) -> None:
    """Placed, paid, confirmed on both shards, every answer delivered twice; the outboxes empty
    and each event of an order exactly once in them; one trace from request to confirmation."""
    await ensure_topics(kafka_bootstrap, {"orders.order": 6})
    orders = await place_all(shop)
    done = asyncio.Event()
    ours = set(orders.values())
    peers = asyncio.create_task(
        answer_orders(shop, kafka_bootstrap, lambda event: event.subject in ours, done)
    )
    try:

        def all_confirmed() -> bool:
            return all(
                shop.rows(shard, "SELECT count(*) FROM saga WHERE ended_at IS NULL") == [(0,)]
                and shop.rows(shard, "SELECT count(*) FROM outbox WHERE sent_at IS NULL") == [(0,)]
                for shard in shop.dsns
            )

        await poll_until(all_confirmed, "every order has ended and every event is sent")
    finally:
        done.set()
        await peers
    for user, order_id in orders.items():
        shard = shard_of(user)
        history = shop.rows(
            shard,
            f"SELECT status FROM order_history WHERE order_id = '{order_id}' ORDER BY version",
        )
        assert [status for (status,) in history] == [
            "pending",
            "paid",
            "stock_reserved",
            "confirmed",
        ]
        sent = shop.rows(shard, f"SELECT type, headers FROM outbox WHERE key = '{order_id}'")
        assert sorted(kind for kind, _ in sent) == [
            "orders.order.confirmed.v1",
            "orders.order.paid.v1",
            "orders.order.placed.v1",
        ]
        traces = {headers["traceparent"].split("-")[1] for _, headers in sent}
        assert len(traces) == 1, "one trace over HTTP, outbox, Kafka and consumer"
    ready = await shop.get(f"{shop.worker_url}/health/ready")
    assert ready.status == 200
    metrics = await (await shop.get(f"{shop.worker_url}/metrics")).text()
    assert 'scalelab_orders_entered_total{status="confirmed"} 8.0' in metrics
    assert 'scalelab_outbox_relay_active{database="shard-0"} 1.0' in metrics


async def test_a_dead_shard_takes_only_its_own_users_with_it(
    migrated: dict[str, str],
    database_dsn: str,
    kafka_bootstrap: str,
    topic_prefix: str,
    tmp_path: Path,
) -> None:
    """503 with Retry-After for the users of shard-1, all others are served; the process stays
    ready, because it still has work it can do."""
    async with open_shop(
        migrated, database_dsn, kafka_bootstrap, topic_prefix, tmp_path, dead="shard-1"
    ) as shop:
        for user in USERS:
            answer = await shop.place(user, "key-1")
            if shard_of(user) == "shard-0":
                assert answer.status == 202
            else:
                assert answer.status == 503
                assert int(answer.headers["Retry-After"]) >= 1
                assert answer.content_type == "application/problem+json"
        ready = await shop.get(f"{shop.url}/health/ready")
        assert ready.status == 200, await ready.text()


async def test_a_customer_follows_an_order_on_any_shard(shop: Shop) -> None:
    """The status stream starts with what happened so far."""
    orders = await place_all(shop)
    for user in (USERS[0], next(u for u in USERS if shard_of(u) != shard_of(USERS[0]))):
        async with shop.http.get(
            f"{shop.url}/api/v1/orders/{orders[user]}/events", headers=shop.headers(user)
        ) as stream:
            async with asyncio.timeout(DEADLINE_S):
                while not (line := await stream.content.readline()).startswith(b"data: "):
                    assert not stream.content.at_eof()
            assert json.loads(line[6:])["status"] == "pending"
