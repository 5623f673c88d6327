"""The payments process with real Kafka, PostgreSQL, provider and tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from month3_messaging.broker import Event, from_wire, to_headers, to_value
from month6_capstone.payments.provider import CHARGES_THEN_HANGS, PAYS
from month6_capstone.payments.service import PaymentsSettings, create, migrate
from scalelab.clients.http import HttpClient
from scalelab.clients.kafka import ensure_topics, open_consumer, open_producer
from scalelab.errors import Forbidden, NotFound, Unauthenticated
from tests.integration.month6.payments.running_provider import RunningProvider
from tests.integration.month6.payments.serving import Issuer, issuer, quiet, serving


class Bed:
    """The running service and what a test needs to talk to it."""

    def __init__(self, url: str, trust: Issuer, settings: PaymentsSettings) -> None:
        self.url = url
        self.trust = trust
        self.settings = settings

    async def tell(self, *events: Event) -> None:
        bootstrap = self.settings.kafka_bootstrap
        async with open_producer(bootstrap, "test") as producer:
            for event in events:
                await producer.send(
                    self.settings.orders_topic, event.subject, to_value(event), to_headers(event)
                )

    async def hear(self, count: int) -> list[Event]:
        """The first `count` answers on the topic."""
        heard: list[Event] = []
        group = f"{self.settings.consumer_group}-ear"
        topics = [self.settings.payments_topic]
        async with open_consumer(self.settings.kafka_bootstrap, group, topics) as consumer:
            async with asyncio.timeout(60):
                while len(heard) < count:
                    records = await consumer.getmany(timeout_ms=200)
                    heard += [from_wire(record.headers, record.value) for record in records]
        return heard


@pytest.fixture
async def bed(
    database_dsn: str, kafka_bootstrap: str, topic_prefix: str, provider: RunningProvider
) -> AsyncGenerator[Bed]:
    async with issuer() as trust:
        settings = PaymentsSettings(
            database_dsn=database_dsn,
            kafka_bootstrap=kafka_bootstrap,
            provider_url=provider.url,
            orders_topic=topic_prefix + "orders.order",
            payments_topic=topic_prefix + "payments.payment",
            consumer_group=topic_prefix + "payments",
            provider_timeout_s=1.5,
            **trust.settings(),
        )
        migrate(settings)
        await ensure_topics(kafka_bootstrap, {settings.orders_topic: 2, settings.payments_topic: 2})
        async with serving(create(settings, quiet("payments")), until_ready=True) as url:
            yield Bed(url, trust, settings)


def fact(kind: str, order_id: UUID, **data: Any) -> Event:
    now = datetime.now(UTC)
    return Event(
        uuid4(),
        f"orders.order.{kind}.v1",
        "/orders",
        str(order_id),
        now,
        {"order_id": str(order_id), **data},
    )


def placed(order_id: UUID, card: str = PAYS) -> Event:
    return fact("placed", order_id, total_minor=700, currency="EUR", card_token=card)


async def test_an_order_event_comes_back_as_a_payment_event(
    bed: Bed, provider: RunningProvider
) -> None:
    """Placed → captured; placed with the silent card → captured after a retry; cancelled →
    refunded. Every event delivered twice; the provider charges each order once."""
    plain, silent = uuid4(), uuid4()
    facts = [placed(plain), placed(silent, CHARGES_THEN_HANGS), fact("cancelled", plain)]
    await bed.tell(*(event for event in facts for _ in range(2)))
    heard = await bed.hear(3)
    by_order = {
        order_id: [event.type.split(".")[2] for event in heard if event.subject == str(order_id)]
        for order_id in (plain, silent)
    }
    assert by_order == {plain: ["captured", "refunded"], silent: ["captured"]}
    assert sorted(line["kind"] for line in provider.lines()) == ["charge", "charge", "refund"]


async def test_what_was_settled_can_be_read_by_services_only(bed: Bed) -> None:
    """401 without a token, 403 with a customer's, 404 for an unknown order."""
    order_id = uuid4()
    await bed.tell(placed(order_id))
    await bed.hear(1)
    path = f"/internal/v1/payments/{order_id}"
    async with HttpClient(bed.url) as http:
        answer = await http.get(path, headers=bed.trust.headers())
        with pytest.raises(Unauthenticated):
            await http.get(path)
        with pytest.raises(Forbidden):
            await http.get(path, headers=bed.trust.headers("shop"))
        with pytest.raises(NotFound):
            await http.get(f"/internal/v1/payments/{uuid4()}", headers=bed.trust.headers())
        metrics = (await http.get("/metrics")).body.decode()
    assert (answer.json()["status"], answer.json()["amount_minor"]) == ("captured", 700)
    assert "guard_calls_total" in metrics
