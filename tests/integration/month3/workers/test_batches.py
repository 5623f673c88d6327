"""Batches on a real Kafka and a real PostgreSQL: one transaction, each event once, poison alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from psycopg import AsyncConnection

from month3_messaging.broker import Event
from month3_messaging.workers import EffectOnce, EventConsumer, OnFailure, dead_letter_topic
from scalelab.clients.kafka import ensure_topics, open_producer
from scalelab.clients.postgres import Database
from scalelab.errors import CorruptData, InvalidInput, InvariantBroken, Unavailable
from scalelab.telemetry import Telemetry
from tests.integration.month3.messaging_bed import make_event, poll_until, read_topic
from tests.integration.month3.workers.effects_bed import FAST, KIND, Effects, numbered, publish

POISON = 13


class Batches:
    """An effect for many events at once, with hooks for trouble; `calls`: what it was given."""

    def __init__(self, database: Database, group: str) -> None:
        self.once = EffectOnce(database, group, self.take_effect)
        self.calls: list[list[Event]] = []
        self.trouble: Callable[[Sequence[Event]], None] | None = None

    async def take_effect(self, conn: AsyncConnection[Any], events: Sequence[Event]) -> None:
        self.calls.append(list(events))
        for event in events:
            await conn.execute(
                "INSERT INTO effect (event_id, key, number) VALUES (%s, %s, %s)",
                (event.id, event.subject, event.data["number"]),
            )
        if self.trouble is not None:
            self.trouble(events)

    @property
    def sizes(self) -> list[int]:
        return [len(events) for events in self.calls]


@pytest.fixture
def batches(database: Database, effects: Effects) -> Batches:
    return Batches(database, effects.group)


@pytest.fixture
async def lane_topic(kafka_bootstrap: str, topic_prefix: str) -> str:
    """A topic of one partition: what is published to it is one lane's."""
    name = f"{topic_prefix}lane"
    await ensure_topics(kafka_bootstrap, {name: 1})
    return name


@pytest.fixture
def consumer(
    kafka_bootstrap: str,
    lane_topic: str,
    telemetry: Telemetry,
    effects: Effects,
    batches: Batches,
) -> EventConsumer:
    return EventConsumer(
        kafka_bootstrap,
        effects.group,
        [lane_topic],
        {KIND: batches.once.alone},
        in_batches=batches.once.together,
        telemetry=telemetry,
        settings=FAST,
    )


async def test_a_backlog_takes_effect_in_a_few_transactions_in_order(
    consumer: EventConsumer,
    batches: Batches,
    effects: Effects,
    kafka_bootstrap: str,
    lane_topic: str,
) -> None:
    """120 events that wait are carried out together, once each, per key in order."""
    await publish(kafka_bootstrap, lane_topic, numbered(6, 20))
    async with consumer:
        await effects.reaches(120)
    assert await effects.by_key() == {f"key-{key}": list(range(20)) for key in range(6)}
    assert sum(batches.sizes) == 120
    assert max(batches.sizes) > 1
    assert len(batches.sizes) < 60


async def test_copies_in_one_batch_and_across_batches_have_one_effect(
    consumer: EventConsumer,
    batches: Batches,
    effects: Effects,
    telemetry: Telemetry,
    kafka_bootstrap: str,
    lane_topic: str,
) -> None:
    """Each event stands twice in the backlog, and all come again later: the effect sees it once."""
    events = numbered(4, 10)
    await publish(kafka_bootstrap, lane_topic, [one for one in events for _ in range(2)])

    async def handled(count: int) -> bool:
        labels = {"group": effects.group, "type": KIND}
        seen = telemetry.registry.get_sample_value("scalelab_consumer_handled_total", labels)
        return (seen or 0) >= count

    async with consumer:
        await poll_until(lambda: handled(80), "the backlog was handled")
        await publish(kafka_bootstrap, lane_topic, events)
        await poll_until(lambda: handled(120), "the copies came as well")
    assert await effects.by_key() == {f"key-{key}": list(range(10)) for key in range(4)}
    assert sum(batches.sizes) == len(events)


async def test_poison_in_the_middle_is_a_letter_and_all_others_take_effect(
    consumer: EventConsumer,
    batches: Batches,
    effects: Effects,
    kafka_bootstrap: str,
    lane_topic: str,
) -> None:
    """Bytes that are no event never reach a transaction; an event that its effect refuses makes
    the batch fall apart. Both are letters with their cause, the others are there in order."""

    def refuse(events: Sequence[Event]) -> None:
        if any(event.data["number"] == POISON for event in events):
            raise CorruptData("thirteen is not a number of ours")

    batches.trouble = refuse
    events = [make_event("key", number) for number in range(20)]
    async with open_producer(kafka_bootstrap, "test") as producer:
        await publish(kafka_bootstrap, lane_topic, events[:5])
        await producer.send(lane_topic, "key", b"not an event", {"ce_id": "junk"})
        await publish(kafka_bootstrap, lane_topic, events[5:])
    async with consumer:
        await effects.reaches(19)
        letters = await read_topic(
            kafka_bootstrap,
            dead_letter_topic(lane_topic, effects.group),
            lambda seen: len(seen) >= 2,
        )
    assert await effects.by_key() == {"key": [n for n in range(20) if n != POISON]}
    assert [letter.headers["ce_id"] for letter in letters] == ["junk", str(events[POISON].id)]
    assert "thirteen is not a number of ours" in letters[1].headers["error_message"]
    assert {letter.headers["retry_attempt"] for letter in letters} == {"1"}
    alone = [calls for calls in batches.calls if [e.data["number"] for e in calls] == [POISON]]
    assert len(alone) == 1, "no second attempt alone"


async def test_an_event_that_fails_twice_comes_back_by_the_ladder_alone(
    consumer: EventConsumer,
    batches: Batches,
    effects: Effects,
    kafka_bootstrap: str,
    lane_topic: str,
) -> None:
    """It fails in its batch and alone, and takes effect from its retry topic."""
    failures = 2

    def fail(events: Sequence[Event]) -> None:
        nonlocal failures
        if failures and any(event.data["number"] == POISON for event in events):
            failures -= 1
            raise LookupError("a bug that goes away")

    batches.trouble = fail
    await publish(
        kafka_bootstrap, lane_topic, [make_event(f"key-{n}", n) for n in (1, POISON, POISON + 1)]
    )
    async with consumer:
        await effects.reaches(3)
    assert await effects.count() == 3
    numbers = [[event.data["number"] for event in events] for events in batches.calls]
    with_it = [together for together in numbers if POISON in together]
    assert len(with_it) == 3
    assert with_it[1:] == [[POISON], [POISON]]


async def test_a_batch_waits_whole_while_a_dependency_is_down(
    consumer: EventConsumer,
    batches: Batches,
    effects: Effects,
    kafka_bootstrap: str,
    lane_topic: str,
) -> None:
    """Three times unavailable, then all take effect: nothing was moved aside or split."""
    left = 3

    def be_down(_events: Sequence[Event]) -> None:
        nonlocal left
        if left:
            left -= 1
            raise Unavailable("down")

    batches.trouble = be_down
    await publish(kafka_bootstrap, lane_topic, numbered(1, 30))
    async with consumer:
        await effects.reaches(30)
    assert await effects.by_key() == {"key-0": list(range(30))}
    assert batches.sizes[:4] == [batches.sizes[0]] * 4


async def test_a_batch_too_slow_for_its_time_is_carried_out_one_by_one(
    batches: Batches,
    effects: Effects,
    telemetry: Telemetry,
    kafka_bootstrap: str,
    lane_topic: str,
) -> None:
    """Together they never end, alone each does at once: the partition is not stuck for ever."""
    ends = asyncio.Event()

    async def together(_events: Sequence[Event]) -> None:
        await ends.wait()

    await publish(kafka_bootstrap, lane_topic, numbered(1, 10))
    async with EventConsumer(
        kafka_bootstrap,
        effects.group,
        [lane_topic],
        {KIND: batches.once.alone},
        in_batches=together,
        telemetry=telemetry,
        settings=replace(FAST, attempt_timeout_s=2.0),
    ):
        await effects.reaches(10)
    assert await effects.by_key() == {"key-0": list(range(10))}


async def test_a_broken_invariant_in_a_batch_stops_the_worker(
    consumer: EventConsumer, batches: Batches, kafka_bootstrap: str, lane_topic: str
) -> None:
    """No second attempt, together or alone."""

    def break_rule(_events: Sequence[Event]) -> None:
        raise InvariantBroken("two and two")

    batches.trouble = break_rule
    await publish(kafka_bootstrap, lane_topic, numbered(1, 10))
    with pytest.raises(InvariantBroken):
        async with asyncio.timeout(60):
            await consumer.run()
    assert len(batches.calls) == 1


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("on_failure", replace(FAST, on_failure=OnFailure.HOLD_KEY)),
        ("batch_max", replace(FAST, batch_max=0)),
    ],
)
async def test_settings_that_no_batch_can_keep_are_refused(
    field: str, settings: Any, batches: Batches, telemetry: Telemetry
) -> None:
    """Before anything is connected."""
    with pytest.raises(InvalidInput) as refused:
        EventConsumer(
            "127.0.0.1:1",
            "group",
            ["topic"],
            {KIND: batches.once.alone},
            in_batches=batches.once.together,
            telemetry=telemetry,
            settings=settings,
        )
    assert refused.value.field == field
