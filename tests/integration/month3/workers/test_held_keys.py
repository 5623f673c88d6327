"""A failed event holds back its key and nothing else, on a real Kafka and a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from month3_messaging.broker import Event
from month3_messaging.workers import (
    EventConsumer,
    OnFailure,
    RetryStep,
    dead_letter_topic,
    topics_of,
)
from scalelab.clients.kafka import Consumer, Partition, ensure_topics, open_consumer
from scalelab.telemetry import TelemetrySettings, build_telemetry
from tests.integration.month3.messaging_bed import make_event, poll_until, read_topic
from tests.integration.month3.workers.effects_bed import FAST, KIND, Effects, numbered, publish

LADDER = (RetryStep("a", 0.02), RetryStep("b", 0.05), RetryStep("c", 0.05), RetryStep("d", 0.05))
HOLDING = replace(FAST, on_failure=OnFailure.HOLD_KEY, ladder=LADDER)
NEVER_ENDING = (RetryStep("h", 3600.0),) * 4

Open = Callable[..., EventConsumer]


@pytest.fixture
async def one_partition(kafka_bootstrap: str, topic_prefix: str) -> str:
    """A topic on which every key has the same partition."""
    name = f"{topic_prefix}narrow"
    await ensure_topics(kafka_bootstrap, {name: 1})
    return name


@pytest.fixture
def consumer(kafka_bootstrap: str, one_partition: str, effects: Effects) -> Open:
    """Members that hold keys; settings by name are changed."""

    def make(**changed: object) -> EventConsumer:
        return EventConsumer(
            kafka_bootstrap,
            effects.group,
            [one_partition],
            {KIND: effects},
            telemetry=build_telemetry(TelemetrySettings(service="member")),
            settings=replace(HOLDING, **changed),
        )

    return make


def failing(number: int, *, until: Callable[[], bool] = lambda: False) -> Callable[..., Awaitable]:
    """The event of that number of the first key fails until something holds."""

    async def trouble(event: Event) -> None:
        if event.subject == "key-0" and event.data["number"] == number and not until():
            raise LookupError("a bug")

    return trouble


async def test_its_key_waits_and_the_others_go_on(
    consumer: Open, effects: Effects, kafka_bootstrap: str, one_partition: str
) -> None:
    """The second event of one key fails for now: all 40 events of the other keys of its partition
    take effect meanwhile, and afterwards its own, in order."""
    fixed = asyncio.Event()
    effects.trouble = failing(1, until=fixed.is_set)
    await publish(kafka_bootstrap, one_partition, numbered(5, 10))
    async with consumer(ladder=(RetryStep("a", 0.02),) * 2000):
        await effects.reaches(41)
        assert (await effects.by_key())["key-0"] == [0]
        fixed.set()
        await effects.reaches(50)
    assert await effects.by_key() == {f"key-{key}": list(range(10)) for key in range(5)}


async def test_poison_is_parked_within_five_tries_and_its_key_goes_on(
    consumer: Open, effects: Effects, kafka_bootstrap: str, one_partition: str
) -> None:
    """Five attempts, one letter with cause, stack and origin; no retry topic is used."""
    effects.trouble = failing(1)
    events = numbered(2, 5)
    await publish(kafka_bootstrap, one_partition, events)
    async with consumer():
        await effects.reaches(9)
        letters = dead_letter_topic(one_partition, effects.group)
        [letter] = await read_topic(kafka_bootstrap, letters, lambda seen: len(seen) >= 1)
    assert await effects.by_key() == {"key-0": [0, 2, 3, 4], "key-1": [0, 1, 2, 3, 4]}
    bad = next(e for e in events if e.subject == "key-0" and e.data["number"] == 1)
    assert effects.attempts[bad.id] == 5
    told = letter.headers
    assert (told["ce_id"], told["retry_attempt"]) == (str(bad.id), "5")
    assert (told["error_code"], told["error_message"]) == ("LookupError", "a bug")
    assert "trouble" in told["error_stack"]
    assert (told["origin_topic"], told["origin_partition"]) == (one_partition, "0")
    assert told["origin_offset"] == str(events.index(bad))
    *rungs, _letters = topics_of(one_partition, effects.group, LADDER)
    assert await ends(kafka_bootstrap, rungs) == {(rung, 0): 0 for rung in rungs}


async def test_the_commit_stays_before_what_waits_and_is_read_again(
    consumer: Open, effects: Effects, kafka_bootstrap: str, one_partition: str
) -> None:
    """A member leaves while a key waits: the next one reads from that event on, and all that had
    been done behind it is met a second time without a second effect."""
    fixed = asyncio.Event()
    effects.trouble = failing(1, until=fixed.is_set)
    events = numbered(2, 5)
    await publish(kafka_bootstrap, one_partition, events)
    async with consumer(ladder=NEVER_ENDING, revoke_grace_s=0.0):
        await effects.reaches(6)
    async with open_consumer(kafka_bootstrap, effects.group, [one_partition]) as reader:
        assert await reader.committed((one_partition, 0)) == 2
    fixed.set()
    async with consumer():
        await effects.reaches(10)
    assert await effects.by_key() == {f"key-{key}": list(range(5)) for key in range(2)}


async def test_keys_that_wait_are_bounded(
    consumer: Open, effects: Effects, kafka_bootstrap: str, one_partition: str
) -> None:
    """With two places and two waiting keys nothing else of the partition begins; when they are
    let go, everything does."""
    fixed = asyncio.Event()

    async def fail(event: Event) -> None:
        if event.subject in {"key-0", "key-1"} and not fixed.is_set():
            raise LookupError("a bug")

    effects.trouble = fail
    await publish(kafka_bootstrap, one_partition, numbered(5, 4))
    async with consumer(ladder=(RetryStep("a", 0.05),) * 2000, keys_in_hand=2):

        async def tried_often() -> bool:
            return effects.attempts.total() >= 20

        await poll_until(tried_often, "the waiting keys were tried often")
        assert len(effects.attempts) == 2
        assert await effects.count() == 0
        fixed.set()
        await effects.reaches(20)
    assert await effects.by_key() == {f"key-{key}": list(range(4)) for key in range(5)}


async def test_messages_held_behind_a_key_are_bounded(
    consumer: Open, effects: Effects, kafka_bootstrap: str, one_partition: str
) -> None:
    """While one key waits, what is done ahead of it grows to the bound and no further: the
    partition is paused, and goes on when the key does."""
    fixed = asyncio.Event()
    effects.trouble = failing(0, until=fixed.is_set)
    first = [make_event("key-0", 0), make_event("key-1", 0)]
    await publish(kafka_bootstrap, one_partition, first)
    async with consumer(
        ladder=(RetryStep("a", 0.05),) * 2000, ahead_full=1, max_records=1, lane_full=50
    ):
        await effects.reaches(1)
        await publish(kafka_bootstrap, one_partition, numbered(4, 25))

        async def tried_often() -> bool:
            return effects.attempts[first[0].id] >= 30

        await poll_until(tried_often, "the waiting event was tried often")
        assert await effects.count() <= 10
        fixed.set()
        await effects.reaches(102)


async def ends(bootstrap: str, topics: list[str]) -> dict[Partition, int]:
    """The end offset of each topic's only partition."""
    reader: Consumer
    async with open_consumer(bootstrap, "nobody", topics) as reader:
        return await reader.end_offsets([(topic, 0) for topic in topics])
