"""The event consumer on a real Kafka and a real PostgreSQL."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from random import Random

import pytest

from month3_messaging.broker import Event
from month3_messaging.workers import EventConsumer, Handler, RetryStep, dead_letter_topic
from scalelab.clients.kafka import open_producer
from scalelab.errors import CorruptData, InvariantBroken, Unavailable
from scalelab.telemetry import Telemetry, TelemetrySettings, build_telemetry
from tests.fixtures.tiers import Count
from tests.integration.month3.messaging_bed import DEADLINE_S, make_event, poll_until, read_topic
from tests.integration.month3.workers.effects_bed import (
    FAST,
    KIND,
    LADDER,
    Effects,
    numbered,
    publish,
)


@pytest.fixture
def consumer(
    kafka_bootstrap: str, topic: str, telemetry: Telemetry, effects: Effects
) -> EventConsumer:
    return EventConsumer(
        kafka_bootstrap,
        effects.group,
        [topic],
        {KIND: effects},
        telemetry=telemetry,
        settings=FAST,
    )


async def test_events_take_effect_once_and_in_order_per_key(
    consumer: EventConsumer, effects: Effects, kafka_bootstrap: str, topic: str
) -> None:
    """Every event is published twice; the effects are there once, per key in order."""
    events = numbered(6, 20)
    await publish(kafka_bootstrap, topic, events)
    await publish(kafka_bootstrap, topic, events)
    async with consumer:
        await effects.reaches(120)

        async def saw_the_copies() -> bool:
            return all(effects.attempts[event.id] >= 2 for event in events)

        await poll_until(saw_the_copies, "the copies came as well")
    assert await effects.by_key() == {f"key-{key}": list(range(20)) for key in range(6)}


async def test_poison_is_a_dead_letter_at_once_with_its_cause(
    consumer: EventConsumer, effects: Effects, kafka_bootstrap: str, topic: str
) -> None:
    """Bytes that are no event, and an event whose data the handler calls corrupt: both are set
    aside after one attempt with cause, stack and origin; those behind them are handled."""

    async def refuse(event: Event) -> None:
        if event.data["number"] == 13:
            raise CorruptData("thirteen is not a number of ours")

    effects.trouble = refuse
    bad, good = make_event("key", 13), make_event("key", 14)
    async with open_producer(kafka_bootstrap, "test") as producer:
        await producer.send(topic, "key", b"not an event", {"ce_id": "junk"})
    await publish(kafka_bootstrap, topic, [bad, good])
    async with consumer:
        await effects.reaches(1)
    assert effects.attempts[bad.id] == 1
    letters = await read_topic(
        kafka_bootstrap, dead_letter_topic(topic, effects.group), lambda seen: len(seen) >= 2
    )
    junk, corrupt = letters
    assert junk.value == b"not an event"
    assert junk.headers["error_code"] == "corrupt_data"
    assert corrupt.headers["ce_id"] == str(bad.id)
    assert corrupt.headers["origin_topic"] == topic
    assert corrupt.headers["origin_offset"].isdigit()
    assert "thirteen is not a number of ours" in corrupt.headers["error_message"]
    assert "refuse" in corrupt.headers["error_stack"]


async def test_an_unexpected_error_climbs_the_ladder_and_ends_as_a_dead_letter(
    consumer: EventConsumer, effects: Effects, kafka_bootstrap: str, topic: str
) -> None:
    """Two retries, then the dead-letter topic: three attempts; the partition is not blocked."""

    async def fail(event: Event) -> None:
        if event.data["number"] == 13:
            raise LookupError("a bug")

    effects.trouble = fail
    bad, good = make_event("key", 13), make_event("key", 14)
    await publish(kafka_bootstrap, topic, [bad, good])
    async with consumer:
        await effects.reaches(1)
        [letter] = await read_topic(
            kafka_bootstrap, dead_letter_topic(topic, effects.group), lambda seen: len(seen) >= 1
        )
    assert effects.attempts[bad.id] == 1 + len(LADDER)
    assert letter.headers["error_code"] == "LookupError"
    assert await effects.by_key() == {"key": [14]}


async def test_a_retry_that_succeeds_has_its_effect(
    consumer: EventConsumer, effects: Effects, kafka_bootstrap: str, topic: str
) -> None:
    """The first attempt fails, the one from the retry topic takes effect."""

    async def fail_once(event: Event) -> None:
        if effects.attempts[event.id] == 1:
            raise LookupError("a bug that goes away")

    effects.trouble = fail_once
    event = make_event("key", 1)
    await publish(kafka_bootstrap, topic, [event])
    async with consumer:
        await effects.reaches(1)
    assert effects.attempts[event.id] == 2


class Drawn(Random):
    """Draws what it was told, in turn, then 0."""

    def __init__(self, *units: float) -> None:
        super().__init__()
        self._units = list(units)

    def random(self) -> float:
        return self._units.pop(0) if self._units else 0.0


async def test_events_on_a_rung_do_not_wait_for_each_other(
    kafka_bootstrap: str, topic: str, effects: Effects, telemetry: Telemetry
) -> None:
    """Full jitter lets the first of two failed events wait an hour and the second not at all: the
    second comes back while the first still waits on the same delay topic."""

    async def fail_once(event: Event) -> None:
        if effects.attempts[event.id] == 1:
            raise LookupError("a bug that goes away")

    effects.trouble = fail_once
    late, soon = make_event("key", 1), make_event("other", 2)
    async with EventConsumer(
        kafka_bootstrap,
        effects.group,
        [topic],
        {KIND: effects},
        telemetry=telemetry,
        settings=replace(FAST, ladder=(RetryStep("1h", 3600.0),), revoke_grace_s=0.0),
        rng=Drawn(1.0),
    ):
        rung = f"{topic}.{effects.group}.retry.1h"
        await publish(kafka_bootstrap, topic, [late])
        await read_topic(kafka_bootstrap, rung, lambda seen: len(seen) >= 1)
        await publish(kafka_bootstrap, topic, [soon])
        await effects.reaches(1)
    assert await effects.by_key() == {"other": [2]}
    assert effects.attempts[late.id] == 1


async def test_an_outage_of_a_dependency_keeps_events_in_place_and_in_order(
    consumer: EventConsumer, effects: Effects, kafka_bootstrap: str, topic: str
) -> None:
    """Unavailable is tried again here: after the outage each key's effects stand in order."""
    up = asyncio.Event()

    async def wait_for_dependency(_event: Event) -> None:
        if not up.is_set():
            raise Unavailable("the dependency is down")

    effects.trouble = wait_for_dependency
    events = numbered(3, 5)
    await publish(kafka_bootstrap, topic, events)
    async with consumer:

        async def tried_often() -> bool:
            return effects.attempts.most_common(1)[0][1] >= 8 if effects.attempts else False

        await poll_until(tried_often, "an event was tried often")
        assert await effects.count() == 0
        up.set()
        await effects.reaches(15)
    assert await effects.by_key() == {f"key-{key}": list(range(5)) for key in range(3)}


async def test_unknown_types_are_skipped_and_counted(
    consumer: EventConsumer,
    effects: Effects,
    kafka_bootstrap: str,
    topic: str,
    telemetry: Telemetry,
) -> None:
    """A newer producer's events do not stop an older consumer."""
    await publish(
        kafka_bootstrap,
        topic,
        [make_event("key", 1, kind="test.thing.invented.v1"), make_event("key", 2)],
    )
    async with consumer:
        await effects.reaches(1)
    labels = {"group": effects.group}
    assert telemetry.registry.get_sample_value("scalelab_consumer_skipped_total", labels) == 1


@pytest.mark.timeout(3600)
async def test_a_rebalance_storm_has_no_double_effect(
    kafka_bootstrap: str, topic: str, effects: Effects, count: Count
) -> None:
    """Members join and leave in the middle of the work, 150 times with --nightly, at least one of
    two always there: each effect is there once, and since partitions hand over between records,
    per key in order."""
    changes = count(150, share=0.03)
    each = 10

    def member() -> EventConsumer:
        return EventConsumer(
            kafka_bootstrap,
            effects.group,
            [topic],
            {KIND: effects},
            telemetry=build_telemetry(TelemetrySettings(service="member")),
            settings=replace(FAST, max_records=10),
        )

    async with AsyncExitStack() as storm:
        members = [await storm.enter_async_context(member())]
        for change in range(changes):
            events = [make_event(f"key-{n % 6}", change * each + n // 6) for n in range(6 * each)]
            await publish(kafka_bootstrap, topic, events)
            if len(members) == 1:
                members.append(await storm.enter_async_context(member()))
            else:
                # The older one leaves: its partitions move, with its work in hand.
                await members.pop(0).__aexit__()
            await effects.reaches(change * 6 * each + 1)
        await effects.reaches(changes * 6 * each)
    assert await effects.by_key() == {f"key-{key}": list(range(changes * each)) for key in range(6)}


async def test_a_member_stops_working_on_partitions_it_lost(
    kafka_bootstrap: str, topic: str, effects: Effects
) -> None:
    """C4: a member with the whole backlog in its lanes is stuck when a second one joins. It lets
    go: nothing of its backlog is attempted a second time, beyond what was in its hands."""
    events = numbered(24, 5)  # keys enough to fill every partition
    await publish(kafka_bootstrap, topic, events)
    first_is_stuck, second_has_begun = asyncio.Event(), asyncio.Event()

    async def stuck(event: Event) -> None:
        first_is_stuck.set()
        await second_has_begun.wait()
        await effects(event)

    async def begin(event: Event) -> None:
        await effects(event)
        second_has_begun.set()

    def member(handler: Handler) -> EventConsumer:
        return EventConsumer(
            kafka_bootstrap,
            effects.group,
            [topic],
            {KIND: handler},
            telemetry=build_telemetry(TelemetrySettings(service="member")),
            settings=replace(FAST, revoke_grace_s=0.1),
        )

    async with member(stuck):
        await asyncio.wait_for(first_is_stuck.wait(), DEADLINE_S)
        async with member(begin):
            await effects.reaches(120)
    assert await effects.by_key() == {f"key-{key}": list(range(5)) for key in range(24)}
    assert effects.attempts.total() <= 120 + 3, "one attempt in hand per partition at most"


async def test_a_replay_of_the_whole_topic_changes_nothing(
    kafka_bootstrap: str, topic: str, effects: Effects, telemetry: Telemetry
) -> None:
    """Another group with the same inbox name reads all from the start: no second effect."""
    events = numbered(3, 10)
    await publish(kafka_bootstrap, topic, events)
    for generation in range(2):
        handled = asyncio.Event()

        async def handle(event: Event, handled: asyncio.Event = handled) -> None:
            await effects(event)
            if len(effects.attempts) == 30:
                handled.set()

        async with EventConsumer(
            kafka_bootstrap,
            f"{effects.group}-{generation}",
            [topic],
            {KIND: handle},
            telemetry=build_telemetry(TelemetrySettings(service="member")),
            settings=FAST,
        ):

            async def all_delivered(generation: int = generation) -> bool:
                return all(effects.attempts[event.id] > generation for event in events)

            await poll_until(all_delivered, "all delivered")
    assert await effects.count() == 30


async def test_a_broken_invariant_stops_the_worker(
    consumer: EventConsumer, effects: Effects, kafka_bootstrap: str, topic: str
) -> None:
    """The worker reports unready and raises; the offset is not committed."""

    async def break_a_rule(_event: Event) -> None:
        raise InvariantBroken("two plus two is five")

    effects.trouble = break_a_rule
    await publish(kafka_bootstrap, topic, [make_event("key", 1)])

    async def is_unready() -> bool:
        try:
            await consumer.ready()
        except Unavailable as error:
            return error.stable_code == "consumer_stopped"
        return False

    async def serve_until_unready() -> None:
        async with consumer:
            await poll_until(is_unready, "the consumer is unready")

    with pytest.raises(InvariantBroken):
        await serve_until_unready()
    effects.trouble = None
    async with EventConsumer(
        kafka_bootstrap,
        effects.group,
        [topic],
        {KIND: effects},
        telemetry=build_telemetry(TelemetrySettings(service="again")),
        settings=FAST,
    ):
        await effects.reaches(1)
