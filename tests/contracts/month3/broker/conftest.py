"""One broker a test, of each kind, with topics that nobody else has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from month3_messaging.broker import Broker, Delivery, Message, Subscription, Topic
from month3_messaging.broker.kafka import KafkaBrokerSettings, open_kafka
from month3_messaging.broker.rabbitmq import RabbitBrokerSettings, open_rabbitmq
from month3_messaging.broker.sqs import SqsBrokerSettings, open_sqs

DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Bed:
    """A connected broker and a prefix for names."""

    kind: str
    broker: Broker
    prefix: str

    async def topic(
        self, *groups: str, lanes: int = 3, keyed: bool = True, tries: int = 3
    ) -> Topic:
        """A fresh topic that `groups` read."""
        topic = Topic(f"{self.prefix}things", lanes, keyed, tries)
        await self.broker.declare(topic, [self.group(name) for name in groups])
        return topic

    def group(self, name: str) -> str:
        """A group nobody else is in."""
        return f"{self.prefix}{name}"


@pytest.fixture(params=["kafka", "rabbitmq", "sqs"])
async def bed(request: pytest.FixtureRequest, topic_prefix: str) -> AsyncIterator[Bed]:
    """Each broker in turn."""
    if request.param == "kafka":
        settings = KafkaBrokerSettings(request.getfixturevalue("kafka_bootstrap"))
        async with open_kafka(settings) as broker:
            yield Bed("kafka", broker, topic_prefix)
    elif request.param == "sqs":
        endpoint = request.getfixturevalue("sqs_endpoint")
        async with open_sqs(SqsBrokerSettings(endpoint, "key", "secret")) as broker:
            yield Bed("sqs", broker, topic_prefix)
    else:
        server = request.getfixturevalue("rabbitmq_server")
        async with open_rabbitmq(RabbitBrokerSettings(server.url)) as broker:
            yield Bed("rabbitmq", broker, topic_prefix)


def numbered(key: str, numbers: range) -> list[Message]:
    """Messages of one key that carry their number."""
    return [Message(key, str(number).encode(), {"n": str(number)}) for number in numbers]


async def take(
    subscription: Subscription, wanted: int, *, ack: bool = True, deadline_s: float = DEADLINE_S
) -> list[Delivery]:
    """So many deliveries, acked as they come. Fails with what there was."""
    taken: list[Delivery] = []
    end_s = asyncio.get_running_loop().time() + deadline_s
    while len(taken) < wanted:
        if asyncio.get_running_loop().time() > end_s:
            pytest.fail(f"only {len(taken)} of {wanted} messages within {deadline_s} s")
        for delivery in await subscription.receive(wanted - len(taken), wait_s=0.5):
            taken.append(delivery)
            if ack:
                await subscription.ack(delivery)
    return taken
