"""Kafka behind the broker interface: a log that is read like a queue.

A topic is a Kafka topic, a lane one of its partitions, a group a consumer group, a member a static
one: a quick restart moves no lane. What is done out of order is remembered by the member (lanes.py)
and stored as one offset per lane: when it fetches next, pauses or leaves.

Where Kafka differs
    - Messages stay after they were acked, so a group declared later is given them too (from the
      start), and any group may read again. `declare` has nothing to make for a group.
    - A group of n members shares the lanes; members beyond the lanes get nothing.
    - The delivery count lives with the member. If its lane moves, or the member is killed, the
      count starts at 1 again: a message that kills its member is never parked by counting.
    - One slow message of a lane holds up the stored offset: a crash repeats what was acked
      behind it in that lane.
    - A dead letter is published, then acked: a crash in between doubles it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from month3_messaging.broker.lanes import Shelf
from month3_messaging.broker.messages import (
    ORIGIN_HEADER,
    REASON_HEADER,
    Delivery,
    Message,
    Topic,
    check,
    dead_letters_of,
)
from scalelab.clients import kafka
from scalelab.clients.kafka import Consumer, Partition, Producer, Record
from scalelab.errors import Conflict, NotFound


@dataclass(frozen=True, slots=True)
class KafkaBrokerSettings:
    """bootstrap: `host:port`. session_timeout_s: silence of a member after which its lanes go."""

    bootstrap: str
    client_id: str = "broker"
    session_timeout_s: float = 10.0
    request_timeout_s: float = 10.0


@asynccontextmanager
async def open_kafka(settings: KafkaBrokerSettings) -> AsyncGenerator[KafkaBroker]:
    """A connected broker. Raises Unavailable if Kafka does not answer."""
    async with kafka.open_producer(
        settings.bootstrap, settings.client_id, request_timeout_s=settings.request_timeout_s
    ) as producer:
        yield KafkaBroker(settings, producer)


class KafkaBroker:
    """See protocol.Broker; made by `open_kafka`."""

    def __init__(self, settings: KafkaBrokerSettings, producer: Producer) -> None:
        self._settings = settings
        self._producer = producer
        self._declared: set[str] = set()

    async def declare(self, topic: Topic, groups: Sequence[str]) -> None:
        """Make the topic, and each group's topic of dead letters."""
        wanted = {topic.name: topic.lanes}
        wanted.update({dead_letters_of(topic, group).name: 1 for group in groups})
        await kafka.ensure_topics(self._settings.bootstrap, wanted)
        self._declared.update(wanted)

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        """One batch after another as the client fills them; waits for all acknowledgements."""
        if topic.name not in self._declared:
            # The client would look for an unknown topic until its time-out.
            raise NotFound(f"topic {topic.name} was not declared here", code="unroutable")
        await self._producer.send_all(
            [
                kafka.Message(topic.name, checked.key, checked.value, checked.headers)
                for checked in map(check, messages)
            ]
        )

    @asynccontextmanager
    async def subscribe(
        self, topic: Topic, group: str, *, member: str, in_hand: int = 100
    ) -> AsyncGenerator[KafkaSubscription]:
        """A static member of the consumer group."""
        subscription = KafkaSubscription(topic, group, self._producer, in_hand)
        async with kafka.open_consumer(
            self._settings.bootstrap,
            group,
            [topic.name],
            client_id=member,
            static_member=member,
            session_timeout_s=self._settings.session_timeout_s,
            on_revoked=subscription.let_go,
            on_assigned=subscription.take_over,
        ) as consumer:
            subscription.consumer = consumer
            try:
                yield subscription
            finally:
                await subscription.commit()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a delivery came from: the shelf tells this membership of the lane from a later one."""

    partition: Partition
    shelf: Shelf
    offset: int


class KafkaSubscription:
    """See protocol.Subscription; made by KafkaBroker.subscribe."""

    consumer: Consumer

    def __init__(self, topic: Topic, group: str, producer: Producer, in_hand: int) -> None:
        self._topic = topic
        self._parked = dead_letters_of(topic, group)
        self._producer = producer
        self._in_hand = in_hand
        self._shelves: dict[Partition, Shelf] = {}
        self._stored: dict[Partition, int] = {}
        self._full: set[Partition] = set()
        self._paused = False

    @property
    def held(self) -> int:
        """Messages fetched and not done: what a crash of this member would have to repeat."""
        return sum(shelf.held for shelf in self._shelves.values())

    async def receive(self, max_messages: int = 100, *, wait_s: float = 1.0) -> list[Delivery]:
        """Records of the lanes that are this member's now."""
        deadline_s = asyncio.get_running_loop().time() + wait_s
        await self.commit()
        while True:
            taken = [] if self._paused else self._take(max_messages)
            left_s = deadline_s - asyncio.get_running_loop().time()
            if taken or left_s <= 0:
                return taken
            self._keep_bounds()
            fetched = await self.consumer.getmany(
                timeout_ms=max(1, round(min(left_s, 0.5) * 1000)), max_records=self._in_hand
            )
            self._shelve(fetched)

    async def ack(self, delivery: Delivery) -> None:
        """Remembered here; stored with the next `receive`, `pause`, or at the end."""
        shelf, offset = self._place_of(delivery)
        if shelf is not None:
            shelf.done(offset)

    async def nack(self, delivery: Delivery, *, park: bool = False) -> None:
        """Handed out again from memory, or published to the dead letters."""
        shelf, offset = self._place_of(delivery)
        if shelf is None:
            return
        if not park and delivery.delivery_count < self._topic.max_deliveries:
            shelf.again(offset)
            return
        headers = {
            **delivery.headers,
            REASON_HEADER: "rejected" if park else "delivery_limit",
            ORIGIN_HEADER: delivery.topic,
        }
        await self._producer.send(self._parked.name, delivery.key, delivery.value, headers)
        shelf.done(offset)

    async def pause(self) -> None:
        """Stop fetching; heartbeats go on in the background."""
        self._paused = True
        self.consumer.pause(self.consumer.assignment())
        await self.commit()

    async def resume(self) -> None:
        """Fetch again."""
        self._paused = False
        self._full.clear()
        self.consumer.resume(self.consumer.assignment())

    async def commit(self) -> None:
        """Store what is done, per lane. Lanes that went to others are left to them."""
        moved = self._positions(self._shelves)
        if not moved:
            return
        try:
            await self.consumer.commit(moved)
        except Conflict:
            return  # a rebalance is under way: not stored means delivered again
        self._stored.update(moved)

    async def let_go(self, revoked: frozenset[Partition]) -> None:
        """Before others may have the lanes: store what is done, forget the rest."""
        await self.commit()
        for partition in revoked:
            self._shelves.pop(partition, None)
            self._stored.pop(partition, None)
            self._full.discard(partition)

    async def take_over(self, assigned: frozenset[Partition]) -> None:
        """Before anything is fetched: the client forgets who paused when lanes are given out."""
        if self._paused:
            self.consumer.pause(assigned)

    def _positions(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        return {
            partition: position
            for partition in partitions
            if (position := self._shelves[partition].position) is not None
            and position != self._stored.get(partition)
        }

    def _take(self, most: int) -> list[Delivery]:
        """A little from every lane in turn, so that no lane starves another."""
        deliveries: list[Delivery] = []
        for partition, shelf in self._shelves.items():
            for record, count in shelf.take(most - len(deliveries)):
                deliveries.append(_delivery(record, count, _Place(partition, shelf, record.offset)))
        return deliveries

    def _shelve(self, records: Sequence[Record]) -> None:
        owned = self.consumer.assignment()
        for record in records:
            partition = (record.topic, record.partition)
            if partition in owned:
                shelf = self._shelves.setdefault(partition, Shelf(ordered=self._topic.keyed))
                shelf.add([record])

    def _keep_bounds(self) -> None:
        """Fetch no more for a lane that holds its bound; a member never holds more than twice."""
        owned = self.consumer.assignment()
        if self._paused:
            return
        full = {p for p, shelf in self._shelves.items() if shelf.held >= self._in_hand} & owned
        self.consumer.pause(full - self._full)
        self.consumer.resume((self._full - full) & owned)
        self._full = full

    def _place_of(self, delivery: Delivery) -> tuple[Shelf | None, int]:
        """The shelf the delivery came from, if the lane is still the same member's."""
        place = cast("_Place", delivery.token)
        if self._shelves.get(place.partition) is not place.shelf:
            return None, place.offset
        return place.shelf, place.offset


def _delivery(record: Record, count: int, place: _Place) -> Delivery:
    key, value = record.key or "", record.value or b""
    return Delivery(record.topic, key, value, record.headers, count, record.partition, place)
