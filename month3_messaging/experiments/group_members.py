"""Members of a consumer group, on two clients, and a ledger of what they own and have processed.

A member processes records, commits what it has processed before it lets go of a partition, and
tells the ledger of every partition that it is given and that it gives up. One of them may be slow
to let go: it stands in its revoke callback until the ledger's gate is opened, as a worker does
whose current record takes long.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import confluent_kafka as librdkafka

from scalelab.clients.kafka import Consumer, Partition, open_consumer
from scalelab.errors import ScalelabError

SESSION_S = 12.0
_POLL_S = 0.05
_GATE_WITHIN_S = 120.0


@dataclass(slots=True)
class Ledger:
    """Shared by the members of a group; they run in threads.

    owner: of each partition that has one. revoked, returned: partitions that members other than
    the leaving one gave up, and those of them that came back to who gave them up. let_go: members
    that have given up something. processed: how often each record was, by partition and offset.
    """

    owner: dict[int, str] = field(default_factory=dict[int, str])
    revoked: int = 0
    returned: int = 0
    let_go: set[str] = field(default_factory=set[str])
    processed: Counter[tuple[int, int]] = field(default_factory=Counter[tuple[int, int]])
    slow: str | None = None
    leaving: str | None = None
    gate: threading.Event = field(default_factory=threading.Event)
    failures: list[str] = field(default_factory=list[str])
    _given_up: dict[str, set[int]] = field(default_factory=dict[str, set[int]])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def gave_up(self, member: str, partitions: Iterable[int]) -> None:
        """`member` owns these no longer; waits at the gate if it is the slow one."""
        with self._lock:
            gone = {at for at in partitions if self.owner.get(at) == member}
            for at in gone:
                del self.owner[at]
            if gone and member != self.leaving:
                self.revoked += len(gone)
                self.let_go.add(member)
                self._given_up.setdefault(member, set()).update(gone)
        if gone and member == self.slow:
            self.gate.wait(_GATE_WITHIN_S)

    def got(self, member: str, partitions: Iterable[int]) -> None:
        """`member` owns these from now on."""
        with self._lock:
            given = set(partitions)
            missed = self._given_up.setdefault(member, set())
            self.returned += len(given & missed)
            missed -= given
            self.owner.update(dict.fromkeys(given, member))

    def did(self, partition: int, offset: int) -> None:
        """A record was processed."""
        with self._lock:
            self.processed[partition, offset] += 1

    def begin(self, *, slow: str | None = None, leaving: str | None = None) -> None:
        """Count anew what is revoked and returned from here on."""
        with self._lock:
            self.revoked = self.returned = 0
            self.let_go.clear()
            self._given_up.clear()
            self.slow, self.leaving = slow, leaving
            self.gate.clear()

    def owned(self) -> dict[str, int]:
        """How many partitions each member owns now."""
        with self._lock:
            return dict(Counter(self.owner.values()))

    def owned_by(self, member: str) -> frozenset[int]:
        """The partitions of `member`."""
        with self._lock:
            return frozenset(at for at, owner in self.owner.items() if owner == member)

    def done_from(self, partition: int, offset: int) -> int:
        """How many records of `partition` from `offset` on were processed."""
        with self._lock:
            return sum(at == partition and one >= offset for at, one in self.processed)


@asynccontextmanager
async def eager_member(
    bootstrap: str, group: str, topic: str, name: str, ledger: Ledger
) -> AsyncGenerator[None, None]:
    """A member on aiokafka: it gives up all of its partitions whenever the group changes."""
    member = _EagerMember(topic, name, ledger)
    # In a task: it is started only once it has partitions, and here somebody may be in the way.
    serving = asyncio.create_task(member.serve(bootstrap, group), name=name)
    try:
        yield
    finally:
        member.stop.set()
        await serving


class _EagerMember:
    def __init__(self, topic: str, name: str, ledger: Ledger) -> None:
        self.stop = asyncio.Event()
        self._topic = topic
        self._name = name
        self._ledger = ledger
        self._consumer: Consumer | None = None
        self._next_of: dict[int, int] = {}

    async def serve(self, bootstrap: str, group: str) -> None:
        try:
            async with open_consumer(
                bootstrap,
                group,
                [self._topic],
                client_id=self._name,
                on_revoked=self._let_go,
                on_assigned=self._take,
                session_timeout_s=SESSION_S,
                start_timeout_s=_GATE_WITHIN_S,
            ) as consumer:
                self._consumer = consumer
                while not self.stop.is_set():
                    for record in await consumer.getmany(timeout_ms=round(_POLL_S * 1000)):
                        self._next_of[record.partition] = record.offset + 1
                        self._ledger.did(record.partition, record.offset)
                await self._let_go(consumer.assignment())
        except ScalelabError as error:
            self._ledger.failures.append(f"{self._name}: {error}")

    async def _let_go(self, revoked: frozenset[Partition]) -> None:
        numbers = {at for _, at in revoked}
        done = {(self._topic, at): self._next_of.pop(at) for at in numbers & self._next_of.keys()}
        if self._consumer is not None:
            await self._consumer.commit(done)
        await asyncio.to_thread(self._ledger.gave_up, self._name, numbers)

    async def _take(self, assigned: frozenset[Partition]) -> None:
        self._ledger.got(self._name, (at for _, at in assigned))


@asynccontextmanager
async def librdkafka_member(
    settings: dict[str, Any], topic: str, name: str, ledger: Ledger
) -> AsyncGenerator[None, None]:
    """A member on confluent-kafka, in a thread of its own. settings: how it keeps its group."""
    stop = threading.Event()
    thread = threading.Thread(target=_serve, args=(settings, topic, name, ledger, stop), name=name)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        await asyncio.to_thread(thread.join)


def _serve(
    settings: dict[str, Any], topic: str, name: str, ledger: Ledger, stop: threading.Event
) -> None:
    next_of: dict[int, int] = {}

    def on_assign(_consumer: Any, assigned: list[librdkafka.TopicPartition]) -> None:
        ledger.got(name, [one.partition for one in assigned])

    def on_revoke(_consumer: Any, revoked: list[librdkafka.TopicPartition]) -> None:
        done = [one.partition for one in revoked if one.partition in next_of]
        if done:
            offsets = [librdkafka.TopicPartition(topic, at, next_of.pop(at)) for at in done]
            # Refused where the group has moved on meanwhile: then the ledger counts the repeats.
            with suppress(librdkafka.KafkaException):
                consumer.commit(offsets=offsets, asynchronous=False)
        ledger.gave_up(name, [one.partition for one in revoked])

    consumer = librdkafka.Consumer(
        {
            **settings,
            "client.id": name,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 100,
        }
    )
    try:
        consumer.subscribe([topic], on_assign=on_assign, on_revoke=on_revoke)
        while not stop.is_set():
            message = consumer.poll(_POLL_S)
            if message is None or message.error() is not None:
                continue  # what it says here it mends itself
            at, offset = message.partition(), message.offset()
            if at is not None and offset is not None:
                next_of[at] = offset + 1
                ledger.did(at, offset)
    except librdkafka.KafkaException as error:
        ledger.failures.append(f"{name}: {error}")
    finally:
        consumer.close()
