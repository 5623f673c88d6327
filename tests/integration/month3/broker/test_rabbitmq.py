"""What RabbitMQ's adapter adds to the brokers' suite: crashes, and messages that nobody takes."""

from __future__ import annotations

import asyncio

import pytest

from month3_messaging.broker import Message, Topic
from month3_messaging.broker.rabbitmq import (
    RabbitBrokerSettings,
    RabbitSubscription,
    open_rabbitmq,
    queue_name,
)
from scalelab.errors import Conflict, NotFound, OutcomeUnknown, Unavailable
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import RabbitMQ
from tests.integration.month3.messaging_bed import poll_until


async def drained(reader: RabbitSubscription, wanted: int) -> list[bytes]:
    """So many messages, acked."""
    values: list[bytes] = []
    async with asyncio.timeout(60):
        while len(values) < wanted:
            for one in await reader.receive(wait_s=0.5):
                values.append(one.value)
                await reader.ack(one)
    return values


@pytest.mark.timeout(240)
async def test_what_was_confirmed_survives_the_brokers_kill(own_runtime: Runtime) -> None:
    """B1: with the counts of what was refused; publishers learn it, and connect anew."""
    server = RabbitMQ("queues")
    own_runtime.start(server)
    topic = Topic("things", lanes=1, max_deliveries=9)
    async with open_rabbitmq(RabbitBrokerSettings(server.url)) as broker:
        await broker.declare(topic, ["a"])

        async def on_disk() -> bool:
            return server.remembers(queue_name(topic, "a", 0))

        await poll_until(on_disk, "the queue's name on disk")
        await broker.publish(topic, [Message("k", str(n).encode()) for n in range(5)])
        async with broker.subscribe(topic, "a", member="m") as reader:
            [first] = await reader.receive(wait_s=30)
            own_runtime.kill("queues")
            with pytest.raises(Unavailable):
                await drained(reader, 2)
        with pytest.raises((Unavailable, OutcomeUnknown)):
            await broker.publish(topic, [Message("k", b"lost")])
        own_runtime.restart("queues")
        await broker.publish(topic, [Message("k", b"5")])
        async with broker.subscribe(topic, "a", member="m") as reader:
            assert await drained(reader, 6) == [str(n).encode() for n in range(6)]
    assert first.value == b"0"


async def test_a_topic_without_a_group_refuses_messages(
    rabbitmq_server: RabbitMQ, topic_prefix: str
) -> None:
    """Mandatory publishing: an exchange that no queue is bound to would drop them silently."""
    topic = Topic(f"{topic_prefix}things")
    async with open_rabbitmq(RabbitBrokerSettings(rabbitmq_server.url)) as broker:
        await broker.declare(topic, [])
        with pytest.raises(NotFound) as told:
            await broker.publish(topic, [Message("k", b"lost")])
        assert told.value.stable_code == "unroutable"
        await broker.declare(topic, ["a"])
        await broker.publish(topic, [Message("k", b"kept")])


async def test_the_count_survives_the_member(rabbitmq_server: RabbitMQ, topic_prefix: str) -> None:
    """A member that dies with a message in hand is counted: such a message will be parked."""
    topic = Topic(f"{topic_prefix}things", lanes=1)
    counts: list[int] = []
    async with open_rabbitmq(RabbitBrokerSettings(rabbitmq_server.url)) as broker:
        await broker.declare(topic, ["a"])
        await broker.publish(topic, [Message("k", b"poison")])
        for _ in range(3):
            async with broker.subscribe(topic, "a", member="m") as reader:
                [one] = await reader.receive(wait_s=60)
                counts.append(one.delivery_count)
    assert counts == [1, 2, 3]


async def test_a_topic_with_other_numbers_is_a_conflict(
    rabbitmq_server: RabbitMQ, topic_prefix: str
) -> None:
    """Queues cannot be changed; the broker's refusal has a name."""
    async with open_rabbitmq(RabbitBrokerSettings(rabbitmq_server.url)) as broker:
        await broker.declare(Topic(f"{topic_prefix}t", max_deliveries=3), ["a"])
        with pytest.raises(Conflict) as told:
            await broker.declare(Topic(f"{topic_prefix}t", max_deliveries=4), ["a"])
    assert told.value.stable_code == "topic_differs"


async def test_a_broker_that_is_not_there_is_unavailable() -> None:
    """At once, with a code; port 1 of this machine has no broker."""
    settings = RabbitBrokerSettings("amqp://u:p@127.0.0.1:1/")
    with pytest.raises(Unavailable) as told:
        async with open_rabbitmq(settings):
            pass
    assert told.value.stable_code == "rabbitmq_unavailable"


async def test_a_member_that_leaves_is_heard(rabbitmq_server: RabbitMQ, topic_prefix: str) -> None:
    """The last acks before leaving arrive, as many as a channel sends on at once."""
    topic = Topic(f"{topic_prefix}things", keyed=False)
    async with open_rabbitmq(RabbitBrokerSettings(rabbitmq_server.url)) as broker:
        await broker.declare(topic, ["a"])
        for turn in range(5):
            await broker.publish(topic, [Message("k", str(n).encode()) for n in range(20)])
            async with broker.subscribe(topic, "a", member="m") as reader:
                assert len(await drained(reader, 20)) == 20, f"turn {turn}"
        await broker.publish(topic, [Message("k", b"last")])
        async with broker.subscribe(topic, "a", member="m") as reader:
            assert await drained(reader, 1) == [b"last"]
