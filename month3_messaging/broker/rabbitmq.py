"""RabbitMQ behind the broker interface: quorum queues, confirms, mandatory messages.

A topic is an exchange, a group has queues bound to it: one a lane where the topic is keyed, else
one that all members compete for. A lane's queue has a single active consumer that is sent one
message at a time: the second comes when the first was answered. Keys find their lane by a hash that
every publisher computes alike.

Where RabbitMQ differs
    - An acked message is gone, and a group is given nothing from before it was declared. A topic
      without any group refuses messages (`unroutable`): nobody would ever have them.
    - The member that came first has every lane of a keyed topic; the others stand by until it
      leaves. Members of a topic that is not keyed share every message, however many they are.
    - A keyed lane waits for an answer to each message: a round trip a message.
    - The delivery count is the queue's own: it survives members, lanes and the broker, and counts
      members that died with a message as well. So a message that kills its member is parked.
    - A dead letter is moved by the broker, at least once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import cast

import aio_pika
from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractIncomingMessage,
    AbstractQueue,
)
from pamqp.common import FieldValue

from month3_messaging.broker.messages import (
    ORIGIN_HEADER,
    REASON_HEADER,
    Delivery,
    Message,
    Topic,
    check,
    dead_letters_of,
)
from month3_messaging.broker.rabbitmq_errors import GONE, map_errors
from scalelab.errors import OutcomeUnknown, Unavailable

_KEY_HEADER = "message-key"
_COUNT = "x-delivery-count"
_DEATH = "x-death"


@dataclass(frozen=True, slots=True)
class RabbitBrokerSettings:
    """url: with user and password. heartbeat_s: two of them missed end a connection."""

    url: str
    heartbeat_s: int = 10
    connect_timeout_s: float = 10.0
    confirm_timeout_s: float = 10.0


@asynccontextmanager
async def open_rabbitmq(settings: RabbitBrokerSettings) -> AsyncGenerator[RabbitBroker]:
    """A connected broker. Raises Unavailable if RabbitMQ does not answer."""
    broker = RabbitBroker(settings)
    async with broker.channel():
        pass
    try:
        yield broker
    finally:
        await broker.aclose()


class RabbitBroker:
    """See protocol.Broker; made by `open_rabbitmq`. Connects anew when its connection is lost."""

    def __init__(self, settings: RabbitBrokerSettings) -> None:
        self._settings = settings
        self._connection: AbstractConnection | None = None
        self._publishing: AbstractChannel | None = None
        self._connecting = asyncio.Lock()

    async def declare(self, topic: Topic, groups: Sequence[str]) -> None:
        """Exchange, queues and dead letters. Conflict if they exist with other numbers."""
        async with self.channel() as channel:
            with map_errors():
                source = await channel.declare_exchange(topic.name, "direct", durable=True)
                for group in groups:
                    parked = dead_letters_of(topic, group)
                    dead = await channel.declare_exchange(parked.name, "fanout", durable=True)
                    arguments = _arguments(parked, parked.name)
                    del arguments["x-dead-letter-exchange"]
                    grave = await channel.declare_queue(
                        queue_name(parked, parked.name, 0), durable=True, arguments=arguments
                    )
                    await grave.bind(dead)
                    for lane in range(_queues(topic)):
                        queue = await channel.declare_queue(
                            queue_name(topic, group, lane),
                            durable=True,
                            arguments=_arguments(topic, parked.name),
                        )
                        await queue.bind(source, routing_key=str(lane))

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        """All are sent, then all confirms awaited: a round trip a batch, not a message."""
        checked = [check(message) for message in messages]
        channel = await self._publisher()
        with map_errors():
            exchange = await channel.get_exchange(topic.name, ensure=False)
            sending = [
                asyncio.create_task(
                    exchange.publish(_outgoing(message), str(_lane(topic, message)), mandatory=True)
                )
                for message in checked
            ]
            if not sending:
                return
            _, late = await asyncio.wait(sending, timeout=self._settings.confirm_timeout_s)
            for task in late:
                task.cancel()
            outcomes = await asyncio.gather(*sending, return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, asyncio.CancelledError):
                    raise OutcomeUnknown(
                        f"RabbitMQ did not confirm within {self._settings.confirm_timeout_s:g} s"
                    )
                if isinstance(outcome, BaseException):
                    raise outcome

    @asynccontextmanager
    async def subscribe(
        self, topic: Topic, group: str, *, member: str, in_hand: int = 100
    ) -> AsyncGenerator[RabbitSubscription]:
        """A connection of its own: what it had in hand goes back to the queue when it closes."""
        connection = await _connect(self._settings)
        subscription = RabbitSubscription(topic)
        try:
            with map_errors():
                await subscription.consume(connection, group, member, in_hand)
            yield subscription
        finally:
            await subscription.leave()
            await _closed(connection)

    @asynccontextmanager
    async def channel(self) -> AsyncGenerator[AbstractChannel]:
        """A channel of its own for declarations: a refusal closes it and no other."""
        connection = await self._connected()
        with map_errors():
            channel = await connection.channel()
        try:
            yield channel
        finally:
            with suppress(*GONE):
                await channel.close()

    async def aclose(self) -> None:
        """Close the connection. Repeatable."""
        if self._connection is not None:
            await _closed(self._connection)
            self._connection = self._publishing = None

    async def _connected(self) -> AbstractConnection:
        async with self._connecting:
            if self._connection is None or _lost(self._connection):
                await self.aclose()
                self._connection = await _connect(self._settings)
            return self._connection

    async def _publisher(self) -> AbstractChannel:
        connection = await self._connected()
        if self._publishing is None or self._publishing.is_closed:
            with map_errors():
                self._publishing = await connection.channel(
                    publisher_confirms=True, on_return_raises=True
                )
        return self._publishing


class RabbitSubscription:
    """See protocol.Subscription; made by RabbitBroker.subscribe."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        self._arrived: asyncio.Queue[tuple[int, AbstractIncomingMessage]] = asyncio.Queue()
        self._connection: AbstractConnection | None = None
        self._channels: list[AbstractChannel] = []
        self._resumed = asyncio.Event()
        self._resumed.set()

    async def consume(
        self, connection: AbstractConnection, group: str, member: str, in_hand: int
    ) -> None:
        """Start to be sent messages; a keyed topic's lane has a channel and a window of 1."""
        self._connection = connection
        for lane in range(_queues(self._topic)):
            channel = await connection.channel()
            self._channels.append(channel)
            await channel.set_qos(prefetch_count=1 if self._topic.keyed else in_hand)
            queue: AbstractQueue = await channel.get_queue(
                queue_name(self._topic, group, lane), ensure=False
            )

            async def arrived(message: AbstractIncomingMessage, lane: int = lane) -> None:
                self._arrived.put_nowait((lane, message))

            await queue.consume(arrived, consumer_tag=f"{member}.{lane}")

    async def leave(self) -> None:
        """Close the channels, each of which has heard its acks by then.

        A connection's end alone overtakes them, and what was acked last is delivered again. So is,
        still, what a channel held back: it has at most 32 commands at a time on their way to a
        quorum queue, and forgets the rest when it ends.
        """
        with suppress(*GONE):
            async with asyncio.timeout(10.0):
                for channel in self._channels:
                    if self._connection is not None and not _lost(self._connection):
                        await channel.close()

    async def receive(self, max_messages: int = 100, *, wait_s: float = 1.0) -> list[Delivery]:
        """What the broker sent, up to the window; waits in steps, so that a loss is noticed."""
        deadline_s = asyncio.get_running_loop().time() + wait_s
        deliveries: list[Delivery] = []
        while len(deliveries) < max_messages:
            if self._connection is None or _lost(self._connection):
                raise Unavailable("the connection to RabbitMQ is lost", code="rabbitmq_unavailable")
            left_s = deadline_s - asyncio.get_running_loop().time()
            try:
                if self._resumed.is_set() and not self._arrived.empty():
                    deliveries.append(self._delivery(*self._arrived.get_nowait()))
                    continue
                if deliveries or left_s <= 0:
                    break
                async with asyncio.timeout(min(left_s, 0.5)):
                    await self._resumed.wait()
                    deliveries.append(self._delivery(*await self._arrived.get()))
            except TimeoutError:
                continue
        return deliveries

    async def ack(self, delivery: Delivery) -> None:
        """Told to the broker; it says nothing back."""
        message = cast("AbstractIncomingMessage", delivery.token)
        if not message.processed:
            with map_errors():
                await message.ack()

    async def nack(self, delivery: Delivery, *, park: bool = False) -> None:
        """Back to the head of its queue, or, by the queue's own limit or `park`, a dead letter."""
        message = cast("AbstractIncomingMessage", delivery.token)
        if not message.processed:
            with map_errors():
                await message.reject(requeue=not park)

    async def pause(self) -> None:
        """Hand out nothing. The broker sends no more than the window, and keeps the lanes ours."""
        self._resumed.clear()

    async def resume(self) -> None:
        """Hand out again, what is in the window first."""
        self._resumed.set()

    def _delivery(self, lane: int, message: AbstractIncomingMessage) -> Delivery:
        headers = {
            name: str(value) for name, value in message.headers.items() if not name.startswith("x-")
        }
        key = headers.pop(_KEY_HEADER, "")
        count = int(cast("int", message.headers.get(_COUNT, 0))) + 1
        deaths = message.headers.get(_DEATH)
        if deaths:
            last = cast("list[dict[str, object]]", deaths)[0]
            headers[ORIGIN_HEADER] = str(last["exchange"])
            headers[REASON_HEADER] = str(last["reason"])
        return Delivery(self._topic.name, key, message.body, headers, count, lane, message)


def queue_name(topic: Topic, group: str, lane: int) -> str:
    """The queue of a group's lane."""
    return f"{topic.name}.{group}.{lane}"


def _queues(topic: Topic) -> int:
    return topic.lanes if topic.keyed else 1


def _lane(topic: Topic, message: Message) -> int:
    return topic.lane_of(message.key) if topic.keyed else 0


def _arguments(topic: Topic, dead_letter_exchange: str) -> dict[str, FieldValue]:
    arguments: dict[str, FieldValue] = {
        "x-queue-type": "quorum",
        "x-delivery-limit": topic.max_deliveries - 1,  # it counts returns, not deliveries
        "x-dead-letter-exchange": dead_letter_exchange,
        # Kept until the dead letters' queue has confirmed; this needs a queue that refuses.
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    if topic.keyed:
        arguments["x-single-active-consumer"] = True
    return arguments


def _outgoing(message: Message) -> aio_pika.Message:
    return aio_pika.Message(
        message.value,
        headers={**message.headers, _KEY_HEADER: message.key},
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )


async def _connect(settings: RabbitBrokerSettings) -> AbstractConnection:
    with map_errors():
        return await aio_pika.connect(
            settings.url,
            timeout=settings.connect_timeout_s,
            heartbeat=settings.heartbeat_s,
        )


def _lost(connection: AbstractConnection) -> bool:
    """Whether it ended; `is_closed` only tells that we closed it ourselves."""
    return not connection.connected.is_set()


async def _closed(connection: AbstractConnection) -> None:
    """Close; a broker that is gone must not hold up the exit."""
    with suppress(*GONE):
        async with asyncio.timeout(10.0):
            await connection.close()
