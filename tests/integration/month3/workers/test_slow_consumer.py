"""A handler that is slower than its topic: what waits, where, and who is told."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from month3_messaging.broker import Event
from month3_messaging.workers import EventConsumer, OnFailure
from scalelab.clients.kafka import ensure_topics
from scalelab.telemetry import Telemetry, TelemetrySettings, build_telemetry
from tests.integration.month3.messaging_bed import poll_until
from tests.integration.month3.workers.effects_bed import FAST, KIND, Effects, numbered, publish

FULL, FETCHED, EVENTS = 20, 10, 300
NARROW = replace(FAST, lane_full=FULL, max_records=FETCHED, behind_every_s=0.05)


@pytest.fixture
async def topic(kafka_bootstrap: str, topic_prefix: str) -> str:
    """A topic with one partition, so that one handler holds up all of it."""
    name = f"{topic_prefix}narrow"
    await ensure_topics(kafka_bootstrap, {name: 1})
    return name


@pytest.fixture
def telemetry() -> Telemetry:
    return build_telemetry(TelemetrySettings(service="member"))


@pytest.mark.parametrize("on_failure", list(OnFailure), ids=str)
async def test_what_a_slow_handler_leaves_waits_at_the_broker(
    kafka_bootstrap: str, topic: str, effects: Effects, telemetry: Telemetry, on_failure: OnFailure
) -> None:
    """In memory lies one lane's bound and a fetch; the metric tells how many wait in all; when the
    handler is quick again, fetching goes on by itself and everything takes effect, in order."""
    released = asyncio.Event()

    async def slow(_event: Event) -> None:
        await released.wait()

    effects.trouble = slow
    await publish(kafka_bootstrap, topic, numbered(1, EVENTS))
    consumer = EventConsumer(
        kafka_bootstrap,
        effects.group,
        [topic],
        {KIND: effects},
        telemetry=telemetry,
        settings=replace(NARROW, on_failure=on_failure, attempt_timeout_s=600.0),
    )
    held: list[int] = []

    def behind() -> float | None:
        labels = {"group": effects.group, "topic": topic}
        return telemetry.registry.get_sample_value("scalelab_consumer_behind_records", labels)

    async def is_full() -> bool:
        held.append(consumer.held)
        return held[-1] >= FULL and behind() == EVENTS

    async def much_later() -> bool:
        held.append(consumer.held)
        return len(held) > 100

    async def has_caught_up() -> bool:
        held.append(consumer.held)
        return behind() == 0

    async with consumer:
        await poll_until(is_full, "the lane is full and all of the backlog is told")
        await poll_until(much_later, "many polls later")
        assert await effects.count() == 0
        await consumer.ready()
        released.set()
        await effects.reaches(EVENTS)
        await poll_until(has_caught_up, "nothing is behind")
    assert max(held) <= FULL + FETCHED
    assert await effects.by_key() == {"key-0": list(range(EVENTS))}
