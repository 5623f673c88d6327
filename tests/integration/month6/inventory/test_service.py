"""The inventory process over HTTP and Kafka: who may ask, what is refused, what is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from month3_messaging.broker import Event, from_wire, to_headers, to_value
from month6_capstone.inventory.service import InventorySettings, create, migrate
from scalelab.clients.http import HttpClient
from scalelab.clients.kafka import ensure_topics, open_consumer, open_producer
from scalelab.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated
from tests.integration.month6.payments.serving import Issuer, issuer, quiet, serving


@pytest.fixture
async def trust() -> AsyncGenerator[Issuer]:
    async with issuer() as trust:
        yield trust


@pytest.fixture
async def settings(
    database_dsn: str, kafka_bootstrap: str, topic_prefix: str, trust: Issuer
) -> InventorySettings:
    settings = InventorySettings(
        database_dsn=database_dsn,
        kafka_bootstrap=kafka_bootstrap,
        orders_topic=topic_prefix + "orders.order",
        stock_topic=topic_prefix + "inventory.stock",
        consumer_group=topic_prefix + "inventory",
        sweep_every_s=0.05,
        **trust.settings(),
    )
    migrate(settings)
    await ensure_topics(kafka_bootstrap, {settings.orders_topic: 2, settings.stock_topic: 2})
    return settings


@pytest.fixture
async def url(settings: InventorySettings) -> AsyncGenerator[str]:
    async with serving(create(settings, quiet("inventory")), until_ready=True) as url:
        yield url


@pytest.fixture
async def http(url: str, trust: Issuer) -> AsyncGenerator[HttpClient]:
    async with HttpClient(url, headers=trust.headers(), timeout_s=30) as http:
        yield http


def basket(quantity: int = 2, *, ttl_s: float = 60, **changed: Any) -> dict[str, Any]:
    line = {"product_id": "p-1", "quantity": quantity}
    return {"user_id": "ada", "lines": [line], "ttl_s": ttl_s, **changed}


async def parts(http: HttpClient) -> tuple[int, int, int]:
    level = (await http.get("/internal/v1/stock/p-1")).json()
    return level["available"], level["held"], level["reserved"]


async def test_holds_over_http(http: HttpClient) -> None:
    """201, then 200 for the repeat, 409 out_of_stock, 404 unknown_product, 204, hold_closed."""
    await http.put("/internal/v1/stock/p-1", {"initial": 3})
    path = f"/internal/v1/holds/{uuid4()}"
    first = await http.put(path, basket())
    again = await http.put(path, basket())
    assert (first.status, again.status) == (201, 200)
    assert first.json() == again.json()
    with pytest.raises(Conflict) as refusal:
        await http.put(f"/internal/v1/holds/{uuid4()}", basket())
    assert refusal.value.stable_code == "out_of_stock"
    unknown = basket(lines=[{"product_id": "p-9", "quantity": 1}])
    with pytest.raises(NotFound) as missing:
        await http.put(f"/internal/v1/holds/{uuid4()}", unknown)
    assert missing.value.stable_code == "unknown_product"
    assert (await http.delete(path)).status == 204
    with pytest.raises(Conflict) as closed:
        await http.put(path, basket())
    assert closed.value.stable_code == "hold_closed"
    assert await parts(http) == (3, 0, 0)


MALFORMED: tuple[dict[str, Any], ...] = (
    {"ttl_s": 0},
    {"user_id": ""},
    {"user_id": "a\x00b"},
    {"lines": []},
    {"lines": [{"product_id": "P", "quantity": 1}]},
    {"lines": [{"product_id": "p-1", "quantity": 0}]},
    {"lines": [{"product_id": "p-1", "quantity": True}]},
    {"lines": [{"product_id": "p-1", "quantity": 1}] * 2},
    {"extra": 1},
)


async def test_a_malformed_hold_changes_nothing(http: HttpClient) -> None:
    """422 invalid_input, never a 5xx."""
    await http.put("/internal/v1/stock/p-1", {"initial": 3})
    for changed in MALFORMED:
        with pytest.raises(InvalidInput):
            await http.put(f"/internal/v1/holds/{uuid4()}", basket(**changed))
    assert await parts(http) == (3, 0, 0)


async def test_every_endpoint_demands_a_service_token(url: str, trust: Issuer) -> None:
    """401 without a token, 403 with a customer's."""
    calls: list[tuple[str, str, Any]] = [
        ("PUT", f"/internal/v1/holds/{uuid4()}", basket()),
        ("DELETE", f"/internal/v1/holds/{uuid4()}", None),
        ("PUT", "/internal/v1/stock/p-1", {"initial": 1}),
        ("GET", "/internal/v1/stock/p-1", None),
    ]
    customer = trust.headers("shop")
    async with HttpClient(url, timeout_s=30) as http:
        for method, path, body in calls:
            with pytest.raises(Unauthenticated):
                await http.request(method, path, json_body=body)
            with pytest.raises(Forbidden):
                await http.request(method, path, json_body=body, headers=customer)


async def test_a_hold_ends_by_itself(http: HttpClient) -> None:
    """The sweeper gives the pieces back."""
    await http.put("/internal/v1/stock/p-1", {"initial": 3})
    await http.put(f"/internal/v1/holds/{uuid4()}", basket(ttl_s=0.01))
    async with asyncio.timeout(30):
        while await parts(http) != (3, 0, 0):
            continue  # each look is a round trip, so this is no busy loop


async def test_order_events_over_kafka_are_answered_once(
    http: HttpClient, settings: InventorySettings
) -> None:
    """Paid and cancelled, each delivered twice: reserved, then released; the stock is back."""
    await http.put("/internal/v1/stock/p-1", {"initial": 3})
    order_id, hold_id = str(uuid4()), str(uuid4())
    await http.put(f"/internal/v1/holds/{hold_id}", basket())
    common = {"order_id": order_id, "hold_id": hold_id}
    facts = {
        "orders.order.paid.v1": {**common, "user_id": "ada", "lines": basket()["lines"]},
        "orders.order.cancelled.v1": {**common, "reason": "x"},
    }
    async with open_producer(settings.kafka_bootstrap, "test") as producer:
        for kind, data in facts.items():
            event = Event(uuid4(), kind, "/orders", order_id, datetime.now(UTC), data)
            for _ in range(2):
                headers, value = to_headers(event), to_value(event)
                await producer.send(settings.orders_topic, order_id, value, headers)
    heard: list[Event] = []
    group = settings.consumer_group + "-ear"
    async with open_consumer(settings.kafka_bootstrap, group, [settings.stock_topic]) as consumer:
        async with asyncio.timeout(60):
            while len(heard) < 2:
                records = await consumer.getmany(timeout_ms=200)
                heard += [from_wire(record.headers, record.value) for record in records]
    assert [event.type.split(".")[2] for event in heard] == ["reserved", "released"]
    assert await parts(http) == (3, 0, 0)
