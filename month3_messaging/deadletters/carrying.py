"""Between desk and Kafka: collect letters from their topics, send what was decided to be replayed.

Guarantees D1 and D2 of desk.py. Several processes may do it: a letter that two of them keep or
send is one letter, and has one effect. When Kafka is away, letters wait in their topics and
decisions in the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from month3_messaging.crash_points import CrashPoint, pass_by
from month3_messaging.deadletters import letter as letters
from month3_messaging.deadletters import letters_postgres as table
from month3_messaging.deadletters.desk import Desk
from month3_messaging.deadletters.letter import Letter, State
from month3_messaging.deadletters.letters_postgres import Kept
from month3_messaging.workers import retry_topic
from scalelab.clients.kafka import (
    Consumer,
    Partition,
    Producer,
    ensure_topics,
    open_consumer,
    open_producer,
)
from scalelab.errors import Conflict, ScalelabError, TooLarge
from scalelab.telemetry import Log

CLIENT = "dead-letter-desk"
"""Consumer group and client id of every desk on a broker and database."""

COLLECTOR = "collector"
SENDER = "sender"
"""Who did it, in the audit, where no person decided."""

_BATCH = 100


async def collect(
    desk: Desk,
    bootstrap: str,
    *,
    log: Log,
    restart_s: float = 1.0,
    static_member: str | None = None,
    reached: Callable[[str], None] = pass_by,
) -> None:
    """Keep the letters of the desk's sources until cancelled; starts over when a server is away.

    static_member: as of `open_consumer`.
    """
    origins = {
        letter_topic: (topic, source.group)
        for source in desk.sources.values()
        for letter_topic, topic in source.letter_topics.items()
    }
    while True:
        try:
            await _make_topics(bootstrap, origins, log)
            async with open_consumer(
                bootstrap, CLIENT, list(origins), static_member=static_member
            ) as consumer:
                while True:
                    await _keep_some(desk, consumer, origins, reached)
        except ScalelabError as error:
            log.warning("desk_collects_again", code=error.stable_code, error=error.message)
            await asyncio.sleep(restart_s)


async def _make_topics(bootstrap: str, topics: Mapping[str, object], log: Log) -> None:
    try:
        await ensure_topics(bootstrap, dict.fromkeys(topics, 1))
    except Conflict as error:
        # The consumers make them too; whoever was first chose the partitions.
        log.info("topic_differs", error=error.message)


async def _keep_some(
    desk: Desk,
    consumer: Consumer,
    origins: Mapping[str, tuple[str, str]],
    reached: Callable[[str], None],
) -> None:
    done: dict[Partition, int] = {}
    for record in await consumer.getmany(timeout_ms=500, max_records=_BATCH):
        arrived = letters.letter_of(record, *origins[record.topic])
        async with desk.database.transaction() as conn:
            await table.park(conn, arrived, COLLECTOR)
        reached(CrashPoint.DESK_PARKED)
        done[record.topic, record.partition] = record.offset + 1
    await consumer.commit(done)


async def send_decided(
    desk: Desk,
    bootstrap: str,
    *,
    log: Log,
    poll_s: float = 1.0,
    reached: Callable[[str], None] = pass_by,
) -> None:
    """Send what was decided to be replayed until cancelled; starts over when a server is away.

    poll_s: how long a decision taken in another process may wait.
    """
    while True:
        try:
            async with open_producer(bootstrap, CLIENT) as producer:
                while True:
                    desk.decided.clear()
                    if not await _send_some(desk, producer, log, reached):
                        await _wait(desk.decided, poll_s)
        except ScalelabError as error:
            log.warning("desk_sends_again", code=error.stable_code, error=error.message)
            await asyncio.sleep(poll_s)


async def _send_some(
    desk: Desk, producer: Producer, log: Log, reached: Callable[[str], None]
) -> bool:
    """Send a batch of what is decided; whether any was sent."""
    some = False
    after = 0
    while decided := await desk.list(State.REPLAYING, after=after, limit=_BATCH):
        after = decided[-1].id
        for kept in decided:
            try:
                some = await _send(desk, producer, kept, reached) or some
            except TooLarge as error:
                log.warning("letter_not_sent", letter=kept.id, error=error.message)
    return some


async def _send(desk: Desk, producer: Producer, kept: Kept, reached: Callable[[str], None]) -> bool:
    letter = kept.letter
    source = desk.sources.get(letter.group)
    if source is None:
        return False
    onward = retry_topic(letter.origin.topic, letter.group, source.ladder[0])
    await producer.send(onward, letter.key, letter.value, letters.headers_to_send(letter))
    reached(CrashPoint.DESK_SENT)

    def decide(now: Letter) -> Letter:
        return letters.sent(now, letter.round)

    async with desk.database.transaction() as conn:
        await table.change(conn, kept.id, decide, who=SENDER, what="sent")
    reached(CrashPoint.DESK_MARKED)
    return True


async def _wait(event: asyncio.Event, longest_s: float) -> None:
    try:
        async with asyncio.timeout(longest_s):
            await event.wait()
    except TimeoutError:
        return
