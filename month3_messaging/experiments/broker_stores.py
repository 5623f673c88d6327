"""A queue's and a log's broker with one more question: how much is stored of a topic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

from month3_messaging.broker import Broker, Topic
from month3_messaging.broker.rabbitmq import RabbitBroker, queue_name
from scalelab.clients.kafka import open_consumer


class Store(Protocol):
    """A broker, and how many messages it stores of a topic for all its groups together."""

    @property
    def broker(self) -> Broker:
        """The broker, connected."""
        ...

    async def stored(self, topic: Topic, groups: Sequence[str]) -> int:
        """Messages, copies counted, without those in a member's hands."""
        ...


@dataclass(frozen=True, slots=True)
class Queues:
    """RabbitMQ."""

    broker: RabbitBroker

    async def stored(self, topic: Topic, groups: Sequence[str]) -> int:
        """The sum of the groups' queues."""
        lanes = range(topic.lanes if topic.keyed else 1)
        found = 0
        async with self.broker.channel() as channel:
            for name in [queue_name(topic, group, lane) for group in groups for lane in lanes]:
                queue = await channel.declare_queue(name, passive=True)
                found += queue.declaration_result.message_count or 0
        return found


@dataclass(frozen=True, slots=True)
class Log:
    """Kafka."""

    broker: Broker
    bootstrap: str

    async def stored(self, topic: Topic, groups: Sequence[str]) -> int:
        """The ends of its partitions: groups are only places in them."""
        del groups
        lanes = [(topic.name, lane) for lane in range(topic.lanes)]
        async with open_consumer(self.bootstrap, f"look-{uuid4()}", [topic.name]) as consumer:
            return sum((await consumer.end_offsets(lanes)).values())
