"""Dead letters: look at them, and give them another try.

A dead letter keeps the event's own headers, where it came from, how often it was tried and the
error with its stack. `replay` puts letters on the *first retry topic of the group that gave up*:
only that group sees them again, and no other consumer of the original topic.

Guarantees
    D1  A letter is replayed at least once: the position is stored after the retry topic has
        acknowledged it. One event id is replayed once per call, however many letters it has.
    D2  Its effect happens once, whatever is replayed how often: the consumer's inbox decides.

Order is gone for a dead letter: events of its key were handled long ago. Replay what bears that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from month3_messaging.workers import (
    ATTEMPT,
    BOOKKEEPING,
    DEFAULT_LADDER,
    ERROR_CODE,
    ERROR_MESSAGE,
    ERROR_STACK,
    ORIGIN_OFFSET,
    ORIGIN_PARTITION,
    ORIGIN_TOPIC,
    RetryStep,
    dead_letter_topic,
    retry_topic,
)
from scalelab.clients.kafka import (
    Consumer,
    Message,
    Partition,
    Record,
    open_consumer,
    open_producer,
)
from scalelab.errors import DeadlineExceeded

_KEPT = frozenset({ORIGIN_TOPIC, ORIGIN_PARTITION, ORIGIN_OFFSET})
_BATCH = 200
_POLL_MS = 250
_SILENT_POLLS = 4


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One letter. partition, offset: in the dead-letter topic. attempts: rungs it had climbed."""

    partition: int
    offset: int
    key: str | None
    event_id: str
    type: str
    origin: str
    attempts: int
    code: str
    message: str
    stack: str


async def list_letters(
    bootstrap: str, topic: str, group: str, *, limit: int = 100, timeout_s: float = 15.0
) -> list[DeadLetter]:
    """At most `limit` letters that `group` gave up on and nobody has replayed yet.

    topic: where the events were published to. Nothing is moved. Raises Unavailable or
    DeadlineExceeded.
    """
    async with (
        _within(timeout_s),
        _open(bootstrap, topic, group) as consumer,
    ):
        return [_letter(record) for record in await _read(consumer, limit)]


async def replay(
    bootstrap: str,
    topic: str,
    group: str,
    *,
    limit: int = 100,
    step: RetryStep = DEFAULT_LADDER[0],
    timeout_s: float = 60.0,
) -> int:
    """Give at most `limit` letters a fresh start; returns how many events were put back.

    step: the first rung of the group's ladder. The attempts count from zero again, and there is
    no wait. Raises Unavailable, OutcomeUnknown or DeadlineExceeded: call again, nothing is lost.
    """
    async with (
        _within(timeout_s),
        open_producer(bootstrap, f"{group}.replay") as producer,
        _open(bootstrap, topic, group) as consumer,
    ):
        records = await _read(consumer, limit)
        unique = {record.headers.get("ce_id") or _place(record): record for record in records}
        onward = retry_topic(topic, group, step)
        await producer.send_all(
            Message(onward, record.key, record.value, _fresh_headers(record))
            for record in unique.values()
        )
        read_to = {(record.topic, record.partition): record.offset + 1 for record in records}
        await consumer.commit(read_to)
        return len(unique)


def _open(bootstrap: str, topic: str, group: str) -> AbstractAsyncContextManager[Consumer]:
    letters = dead_letter_topic(topic, group)
    # A group of its own remembers what was replayed.
    return open_consumer(bootstrap, f"{letters}.replay", [letters])


async def _read(consumer: Consumer, limit: int) -> list[Record]:
    """Records from the stored position to the present end, at most `limit`.

    Letters that outlived the topic's retention leave a gap before the first record, so what is
    left to read is known by silence, not by counting.
    """
    records: list[Record] = []
    ends: dict[Partition, int] = {}
    silent = 0
    while len(records) < limit and silent < _SILENT_POLLS:
        fetched = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_BATCH)
        owned = consumer.assignment()
        if not owned:
            continue
        if not ends:
            ends = await consumer.end_offsets(owned)
        silent = 0 if fetched else silent + 1
        records.extend(r for r in fetched if r.offset < ends.get((r.topic, r.partition), 0))
    return records[:limit]


def _fresh_headers(record: Record) -> dict[str, str]:
    """The event's own headers and its origin; the count of attempts starts over.

    An attempt of 1 says "on the ladder", so the next failure goes to the second rung.
    """
    kept = {
        name: text
        for name, text in record.headers.items()
        if name not in BOOKKEEPING or name in _KEPT
    }
    return kept | {ATTEMPT: "1"}


def _letter(record: Record) -> DeadLetter:
    headers = record.headers
    return DeadLetter(
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        event_id=headers.get("ce_id", ""),
        type=headers.get("ce_type", ""),
        origin=f"{headers.get(ORIGIN_TOPIC)}/{headers.get(ORIGIN_PARTITION)}"
        f"@{headers.get(ORIGIN_OFFSET)}",
        attempts=int(headers.get(ATTEMPT, "0")),
        code=headers.get(ERROR_CODE, ""),
        message=headers.get(ERROR_MESSAGE, ""),
        stack=headers.get(ERROR_STACK, ""),
    )


def _place(record: Record) -> str:
    return f"{record.partition}@{record.offset}"


@asynccontextmanager
async def _within(timeout_s: float) -> AsyncGenerator[None, None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"the dead letters were not read within {timeout_s} s", code="deadline_exceeded"
        ) from error
