"""Kafka: the one file that talks to aiokafka. Producer, consumer, topics, records.

Producing is idempotent with acks=all: an acknowledged record is on every in-sync replica, once.
`send` waits for that; `send_all` hands a batch over first and waits once, which is the way to
fill batches (waiting for each record sends one record a round trip).

Consuming never commits on its own: the caller commits what it has carried out, so a crash
repeats records and loses none. Keep effects idempotent by an inbox.

Order of calls in a rebalance: `on_revoked(partitions)` runs before another member may get them;
the caller finishes or abandons its work there. After it, a commit for them raises Conflict.
"""

# aiokafka ships no type information for its clients; this adapter gives it one.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from scalelab.clients.kafka_records import Message, Partition, Position, Record
from scalelab.errors import Conflict, OutcomeUnknown, ScalelabError, TooLarge, Unavailable

__all__ = [
    "Consumer",
    "Message",
    "Partition",
    "Position",
    "Producer",
    "RebalanceHook",
    "Record",
    "ensure_topics",
    "map_errors",
    "open_consumer",
    "open_producer",
]

RebalanceHook = Callable[[frozenset[Partition]], Awaitable[None]]

_TOPIC_EXISTS = 36
_CONNECT_STEP_S = 0.2


class Producer:
    """A started producer; made by `open_producer`."""

    def __init__(self, client: AIOKafkaProducer) -> None:
        self._client = client

    async def send(
        self,
        topic: str,
        key: str | None,
        value: bytes | None,
        headers: Mapping[str, str] | None = None,
    ) -> Position:
        """Produce one record and wait for its acknowledgement.

        Raises TooLarge (nothing sent), Unavailable, or OutcomeUnknown (no answer in time: the
        record may be there; sending it again may duplicate it for consumers).
        """
        [position] = await self.send_all([Message(topic, key, value, headers or {})])
        return position

    async def enqueue(self, message: Message) -> asyncio.Future[Position]:
        """Hand a record to the next batch; the future resolves when it is acknowledged.

        Waits only while the buffer is full. Await the future under `map_errors()`, or use
        `send_all`, which does.
        """
        with map_errors():
            return await self._client.send(
                message.topic,
                key=None if message.key is None else message.key.encode(),
                value=message.value,
                headers=[(name, text.encode()) for name, text in message.headers.items()],
            )

    async def send_all(self, messages: Iterable[Message]) -> list[Position]:
        """Produce many records as batches; returns when all are acknowledged, in their order.

        Raises the first error after every outcome is known; the others may have been stored.
        """
        acks: list[asyncio.Future[Any]] = []
        try:
            for message in messages:
                acks.append(await self.enqueue(message))  # noqa: PERF401 (kept on failure)
        finally:
            if acks:
                await asyncio.wait(acks)
        with map_errors():
            stored = [ack.result() for ack in acks]
        return [Position(raw.topic, raw.partition, raw.offset) for raw in stored]

    async def flush(self) -> None:
        """Return when everything handed over so far is acknowledged or has failed."""
        with map_errors():
            await self._client.flush()


class Consumer:
    """A started member of a consumer group; made by `open_consumer`."""

    def __init__(self, client: AIOKafkaConsumer) -> None:
        self._client = client

    async def getmany(self, *, timeout_ms: int = 500, max_records: int = 500) -> list[Record]:
        """Records that are there, or those of the first `timeout_ms`; in order per partition."""
        with map_errors():
            fetched: dict[Any, list[Any]] = await self._client.getmany(
                timeout_ms=timeout_ms, max_records=max_records
            )
        return [_record(raw) for batch in fetched.values() for raw in batch]

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Store the next offset to read per partition (last carried out + 1).

        Raises Conflict code `rebalanced` if the partitions belong to another member by now.
        """
        if not offsets:
            return
        with map_errors():
            await self._client.commit({TopicPartition(*p): at for p, at in offsets.items()})

    async def committed(self, partition: Partition) -> int | None:
        """The group's stored offset of `partition`, None before the first commit."""
        with map_errors():
            return await self._client.committed(TopicPartition(*partition))

    async def end_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The offset the next record of each partition will get; minus a position it is the lag."""
        with map_errors():
            found: dict[Any, int] = await self._client.end_offsets(_raw(partitions))
        return {(p.topic, p.partition): offset for p, offset in found.items()}

    async def begin_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The oldest offset that each partition still has; over 0 once retention took records."""
        with map_errors():
            found: dict[Any, int] = await self._client.beginning_offsets(_raw(partitions))
        return {(p.topic, p.partition): offset for p, offset in found.items()}

    def assignment(self) -> frozenset[Partition]:
        """The partitions this member reads now."""
        return _partitions(self._client.assignment())

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Stop fetching these while staying a member; `resume` goes on at the same offset."""
        self._client.pause(*_raw(partitions))

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Fetch these again."""
        self._client.resume(*_raw(partitions))

    def seek(self, partition: Partition, offset: int) -> None:
        """Read `partition` from `offset` next, to carry failed records out again."""
        self._client.seek(TopicPartition(*partition), offset)


@asynccontextmanager
async def open_producer(
    bootstrap: str,
    client_id: str,
    *,
    start_timeout_s: float = 10.0,
    request_timeout_s: float = 10.0,
    linger_ms: int = 5,
) -> AsyncGenerator[Producer, None]:
    """An idempotent producer; on exit it flushes and closes.

    Raises Unavailable if no broker answers within `start_timeout_s`.
    """

    def make() -> AIOKafkaProducer:
        return AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            client_id=client_id,
            acks="all",
            enable_idempotence=True,
            linger_ms=linger_ms,
            request_timeout_ms=round(request_timeout_s * 1000),
        )

    client = await _started(make, bootstrap, start_timeout_s)
    try:
        yield Producer(client)
    finally:
        await _stopped(client, request_timeout_s)


@asynccontextmanager
async def open_consumer(
    bootstrap: str,
    group: str,
    topics: Sequence[str],
    *,
    client_id: str | None = None,
    on_revoked: RebalanceHook | None = None,
    on_assigned: RebalanceHook | None = None,
    from_start: bool = True,
    static_member: str | None = None,
    session_timeout_s: float = 10.0,
    start_timeout_s: float = 10.0,
) -> AsyncGenerator[Consumer, None]:
    """A member of `group` on `topics`, without automatic commits; on exit it leaves the group.

    from_start: where a group without stored offsets begins. static_member: a name that survives
    restarts, so that a quick restart moves no partitions. session_timeout_s: silence after which
    the group gives the partitions to others.
    Raises Unavailable if no broker answers within `start_timeout_s`.
    """

    def make() -> AIOKafkaConsumer:
        client = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            client_id=client_id or group,
            group_id=group,
            group_instance_id=static_member,
            enable_auto_commit=False,
            auto_offset_reset="earliest" if from_start else "latest",
            isolation_level="read_committed",
            session_timeout_ms=round(session_timeout_s * 1000),
            heartbeat_interval_ms=round(session_timeout_s * 1000 / 3),
            fetch_max_wait_ms=100,
        )
        client.subscribe(list(topics), listener=_Listener(on_revoked, on_assigned))
        return client

    client = await _started(make, bootstrap, start_timeout_s)
    try:
        yield Consumer(client)
    finally:
        await _stopped(client, session_timeout_s)


async def ensure_topics(
    bootstrap: str,
    topics: Mapping[str, int],
    config: Mapping[str, str] | None = None,
    *,
    replication_factor: int = 1,
    timeout_s: float = 15.0,
) -> None:
    """Create the topics (name to partitions) that do not exist; existing ones stay as they are.

    Raises Conflict code `topic_partitions_differ` if one exists with fewer partitions: growing
    it would send old keys to new partitions and break their order.
    """

    def make() -> AIOKafkaAdminClient:
        return AIOKafkaAdminClient(
            bootstrap_servers=bootstrap, request_timeout_ms=round(timeout_s * 1000)
        )

    admin = await _started(make, bootstrap, timeout_s)
    try:
        with map_errors():
            wanted = [
                NewTopic(name, partitions, replication_factor, topic_configs=dict(config or {}))
                for name, partitions in topics.items()
            ]
            answer = await admin.create_topics(wanted)
            existing = _existing_topics(answer)
            if existing:
                _check_partitions(await admin.describe_topics(sorted(existing)), topics)
    finally:
        await admin.close()


@contextmanager
def map_errors() -> Generator[None, None, None]:
    """Translate aiokafka's errors that the block raises."""
    try:
        yield
    except kafka_errors.MessageSizeTooLargeError as error:
        raise TooLarge(f"Kafka: {error}") from error
    except (
        kafka_errors.CommitFailedError,
        kafka_errors.IllegalGenerationError,
        kafka_errors.UnknownMemberIdError,
        kafka_errors.RebalanceInProgressError,
        kafka_errors.IllegalStateError,
    ) as error:
        raise Conflict(f"Kafka: {error}", code="rebalanced") from error
    except (kafka_errors.KafkaTimeoutError, kafka_errors.RequestTimedOutError) as error:
        raise OutcomeUnknown(f"Kafka did not answer: {error}") from error
    except kafka_errors.KafkaError as error:
        if getattr(error, "retriable", False):
            raise Unavailable(f"Kafka: {error!r}", code="kafka_unavailable") from error
        raise ScalelabError(f"Kafka: {error!r}", code="kafka_error") from error


class _Listener(ConsumerRebalanceListener):
    def __init__(self, on_revoked: RebalanceHook | None, on_assigned: RebalanceHook | None) -> None:
        self._on_revoked = on_revoked
        self._on_assigned = on_assigned

    # The library's stub methods are not async; it awaits what they return.
    async def on_partitions_revoked(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, revoked: Iterable[Any]
    ) -> None:
        if self._on_revoked is not None:
            await self._on_revoked(_partitions(revoked))

    async def on_partitions_assigned(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, assigned: Iterable[Any]
    ) -> None:
        if self._on_assigned is not None:
            await self._on_assigned(_partitions(assigned))


async def _started(make: Callable[[], Any], bootstrap: str, timeout_s: float) -> Any:
    """A started client; tries anew until `timeout_s`, since a broker may still be starting."""
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    while True:
        client = make()
        try:
            async with asyncio.timeout_at(deadline_s):
                await client.start()
        except (kafka_errors.KafkaError, TimeoutError) as error:
            await _stopped(client, timeout_s)
            if asyncio.get_running_loop().time() + _CONNECT_STEP_S >= deadline_s:
                raise Unavailable(
                    f"Kafka does not answer on {bootstrap}: {error!r}", code="kafka_unavailable"
                ) from error
            await asyncio.sleep(_CONNECT_STEP_S)
        except BaseException:
            await _stopped(client, timeout_s)
            raise
        else:
            return client


async def _stopped(client: Any, timeout_s: float) -> None:
    """Close a client within `timeout_s`; a broker that is gone must not hold up the exit."""
    closing = client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop()
    try:
        async with asyncio.timeout(timeout_s):
            await closing
    except (kafka_errors.KafkaError, TimeoutError):
        return


def _record(raw: Any) -> Record:
    return Record(
        topic=raw.topic,
        partition=raw.partition,
        offset=raw.offset,
        key=None if raw.key is None else raw.key.decode(errors="replace"),
        value=raw.value,
        headers={name: (text or b"").decode(errors="replace") for name, text in raw.headers},
        timestamp_ms=raw.timestamp,
    )


def _raw(partitions: Iterable[Partition]) -> list[Any]:
    return [TopicPartition(*partition) for partition in partitions]


def _partitions(raw: Iterable[Any]) -> frozenset[Partition]:
    return frozenset((p.topic, p.partition) for p in raw)


def _existing_topics(answer: Any) -> set[str]:
    """Names the broker already had; raises its error for any other refusal."""
    existing: set[str] = set()
    for name, code, *_detail in answer.topic_errors:
        if code == _TOPIC_EXISTS:
            existing.add(name)
        elif code:
            raise kafka_errors.for_code(code)(name)
    return existing


def _check_partitions(described: Iterable[Mapping[str, Any]], wanted: Mapping[str, int]) -> None:
    for topic in described:
        name, has = topic["topic"], len(topic["partitions"])
        if has < wanted[name]:
            raise Conflict(
                f"topic {name} has {has} partitions, {wanted[name]} are wanted",
                code="topic_partitions_differ",
            )
