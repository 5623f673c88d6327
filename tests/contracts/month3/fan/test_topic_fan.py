"""One event, many groups, on both real brokers: each group at its own pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from month3_messaging.broker import Broker, Delivery, Message, Topic, dead_letters_of
from month3_messaging.broker.kafka import KafkaBrokerSettings, open_kafka
from month3_messaging.broker.rabbitmq import RabbitBrokerSettings, open_rabbitmq
from month3_messaging.fan import Follower, follow
from scalelab.errors import InvalidInput, Unavailable

pytestmark = pytest.mark.anyio
DEADLINE_S = 60.0


@pytest.fixture(params=["kafka", "rabbitmq"])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    """Each broker in turn."""
    if request.param == "kafka":
        settings = KafkaBrokerSettings(request.getfixturevalue("kafka_bootstrap"))
        async with open_kafka(settings) as opened:
            yield opened
    else:
        server = request.getfixturevalue("rabbitmq_server")
        async with open_rabbitmq(RabbitBrokerSettings(server.url)) as opened:
            yield opened


class Group:
    """What one group has carried out. gate: it carries out nothing while this is closed."""

    def __init__(self, prefix: str, name: str, *, fails: Callable[[Delivery], None] | None = None):
        self.name = f"{prefix}{name}"
        self.done: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._fails = fails
        self._changed = asyncio.Condition()

    @property
    def follower(self) -> Follower:
        """Its one member."""
        return Follower(self.name, f"{self.name}-1", self._handle)

    async def _handle(self, delivery: Delivery) -> None:
        await self.gate.wait()
        if self._fails is not None:
            self._fails(delivery)
        async with self._changed:
            self.done.append(delivery.value.decode())
            self._changed.notify_all()

    async def has(self, *wanted: str) -> None:
        """Wait until exactly these were carried out, repeats aside."""
        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(lambda: set(self.done) == set(wanted))


@asynccontextmanager
async def following(broker: Broker, topic: Topic, *groups: Group) -> AsyncGenerator[None, None]:
    """The groups read until the block ends."""
    task = asyncio.create_task(follow(broker, topic, [group.follower for group in groups]))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()


def events(*names: str) -> list[Message]:
    """Of one key, so in their order."""
    return [Message("order-1", name.encode()) for name in names]


async def test_a_group_that_stands_still_holds_nobody_back(
    broker: Broker, topic_prefix: str
) -> None:
    """The quick one has all before the slow one has any; then the slow one has all as well."""
    topic = Topic(f"{topic_prefix}orders", lanes=1)
    slow, quick = Group(topic_prefix, "slow"), Group(topic_prefix, "quick")
    await broker.declare(topic, [slow.name, quick.name])
    slow.gate.clear()
    async with following(broker, topic, slow, quick):
        await broker.publish(topic, events("placed", "paid", "sent"))
        await quick.has("placed", "paid", "sent")
        assert slow.done == []
        slow.gate.set()
        await slow.has("placed", "paid", "sent")
    assert quick.done == slow.done == ["placed", "paid", "sent"]


async def test_poison_of_one_group_is_no_poison_of_another(
    broker: Broker, topic_prefix: str
) -> None:
    """It is parked among that group's dead letters at once, and its lane goes on."""

    def choke(delivery: Delivery) -> None:
        if delivery.value == b"poison":
            raise InvalidInput("cannot read this")

    topic = Topic(f"{topic_prefix}orders", lanes=1)
    strict, easy = Group(topic_prefix, "strict", fails=choke), Group(topic_prefix, "easy")
    await broker.declare(topic, [strict.name, easy.name])
    async with following(broker, topic, strict, easy):
        await broker.publish(topic, events("placed", "poison", "sent"))
        await easy.has("placed", "poison", "sent")
        await strict.has("placed", "sent")
    letters = dead_letters_of(topic, strict.name)
    async with broker.subscribe(letters, letters.name, member="reader") as subscription:
        async with asyncio.timeout(DEADLINE_S):
            while not (found := await subscription.receive(1)):
                pass
        await subscription.ack(found[0])
    assert found[0].value == b"poison"


async def test_what_may_work_later_is_delivered_again_to_that_group_only(
    broker: Broker, topic_prefix: str
) -> None:
    """A retryable error is no reason to park."""
    counts: list[int] = []

    def weak_at_first(delivery: Delivery) -> None:
        counts.append(delivery.delivery_count)
        if delivery.delivery_count < 3:
            raise Unavailable("my database is away")

    topic = Topic(f"{topic_prefix}orders", lanes=1, max_deliveries=5)
    weak, strong = Group(topic_prefix, "weak", fails=weak_at_first), Group(topic_prefix, "strong")
    await broker.declare(topic, [weak.name, strong.name])
    async with following(broker, topic, weak, strong):
        await broker.publish(topic, events("placed"))
        await weak.has("placed")
        await strong.has("placed")
    assert counts == [1, 2, 3]
    assert strong.done == ["placed"]
