"""Everything that stands on the topics now: each partition from its start to its end.

Read with a consumer group of its own that never commits, so nobody's position moves.
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime

from month6_capstone.truth.records import TopicRecord
from month6_capstone.truth.settings import TruthSettings
from scalelab.clients.kafka import Consumer, Partition, Record, open_consumer
from scalelab.errors import Unavailable

_POLL_MS = 200


async def dump(settings: TruthSettings) -> list[TopicRecord]:
    """All records of the event topics and dead-letter topics, in order per partition.

    Topics that do not exist are empty. Raises Unavailable if Kafka does not answer in time, or if
    retention has deleted the end of a partition: what was there can then not be judged.
    """
    topics = [*settings.topics, *settings.dead_letter_topics]
    group = f"truth-{uuid.uuid4().hex}"
    try:
        async with (
            asyncio.timeout(settings.timeout_s),
            open_consumer(settings.kafka_bootstrap, group, topics) as consumer,
        ):
            return await _read_to_end(consumer)
    except TimeoutError as error:
        raise Unavailable(f"the topics were not read within {settings.timeout_s} s") from error


async def _read_to_end(consumer: Consumer) -> list[TopicRecord]:
    found = list(await consumer.getmany(timeout_ms=_POLL_MS))
    while not consumer.assignment():
        found += await consumer.getmany(timeout_ms=_POLL_MS)
    ends = await consumer.end_offsets(consumer.assignment())
    left = {partition for partition, end in ends.items() if end > 0}
    left -= _finished(found, ends)
    while left:
        records = await consumer.getmany(timeout_ms=_POLL_MS)
        found += records
        left -= _finished(records, ends)
    return [_view(record) for record in found if record.offset < ends[_at(record)]]


def _finished(records: list[Record], ends: dict[Partition, int]) -> set[Partition]:
    return {_at(record) for record in records if record.offset + 1 >= ends[_at(record)]}


def _at(record: Record) -> Partition:
    return (record.topic, record.partition)


def _view(record: Record) -> TopicRecord:
    return TopicRecord(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key or "",
        event_id=record.headers.get("ce_id", ""),
        type=record.headers.get("ce_type", ""),
        at=datetime.fromtimestamp(record.timestamp_ms / 1000, UTC),
    )
