"""Consumer and desk die by SIGKILL at every named point; every effect is there once."""

from __future__ import annotations

import asyncio
from collections import Counter

import psycopg
import pytest

from month3_messaging.broker import Event, to_headers, to_value
from month3_messaging.crash_points import CONSUMER_POINTS, CrashPoint
from month3_messaging.deadletters import Desk, State
from month3_messaging.experiments.mortal_process import (
    KIND,
    LADDER,
    POISON,
    Bed,
    consume_effectively_once,
    desk_collects,
    desk_decides,
    desk_sends,
)
from month3_messaging.experiments.mortals import KILLED, Mortals
from month3_messaging.workers import dead_letter_topic, retry_topic
from scalelab.clients.kafka import Message, Record, open_producer
from tests.integration.month3.messaging_bed import make_event, poll_until, read_topic

pytestmark = pytest.mark.timeout(240)


async def publish(bed: Bed, *numbers: int) -> list[Event]:
    """One event a number, over three keys."""
    events = [make_event(f"key-{at % 3}", number, KIND) for at, number in enumerate(numbers)]
    async with open_producer(bed.bootstrap, "test") as producer:
        await producer.send_all(
            Message(bed.topic, event.subject, to_value(event), to_headers(event))
            for event in events
        )
    return events


def effects(bed: Bed) -> Counter[str]:
    """How often each event took effect."""
    with psycopg.connect(bed.dsn) as conn:
        return Counter(str(row[0]) for row in conn.execute("SELECT event_id FROM effect"))


def letters(bed: Bed, state: State) -> int:
    """How many letters are in that state."""
    with psycopg.connect(bed.dsn) as conn:
        row = conn.execute("SELECT count(*) FROM dead_letter WHERE state = %s", (state,)).fetchone()
    return int(row[0]) if row else 0


async def test_consumers_killed_at_every_point_have_each_effect_once(
    bed: Bed, mortals: Mortals
) -> None:
    """Before the effect, after it and before its commit, after the commit and before the offset,
    after passing a poison event on, after the offset: the next one goes on."""
    good: list[Event] = []
    poison: list[Event] = []
    for point in CONSUMER_POINTS:
        *fine, bad = await publish(bed, 1, 2, 3, POISON)
        good += fine
        poison.append(bad)
        code = await asyncio.to_thread(mortals.run, consume_effectively_once, point)
        assert code == KILLED, f"the fault bit at {point}"
    found = await _run_until_over(bed, mortals, poison, len(good))
    assert effects(bed) == Counter(str(event.id) for event in good)
    assert {record.headers["ce_id"] for record in found} == {str(event.id) for event in poison}


async def test_a_desk_killed_at_every_point_loses_no_letter_and_replays_into_one_effect(
    bed: Bed, mortals: Mortals, desk: Desk
) -> None:
    """Collector, decision and sender die half way and are repeated: one letter an event, one line
    in the audit a decision, a second copy on the retry topic, one effect."""
    poison = await publish(bed, *[POISON] * 3)

    def collected() -> bool:
        return letters(bed, State.PARKED) >= len(poison)

    await _run_until_over(bed, mortals, poison, 0)
    code = await asyncio.to_thread(mortals.run, desk_collects, CrashPoint.DESK_PARKED)
    assert code == KILLED, "the fault bit"
    await asyncio.to_thread(mortals.run_until, desk_collects, collected)
    parked = await desk.list(State.PARKED)
    assert {one.letter.event_id for one in parked} == {event.id for event in poison}
    for one in parked:
        await desk.edit(one.id, who="clerk", headers={}, value=b'{"number":1}')

    assert await asyncio.to_thread(mortals.run, desk_decides, CrashPoint.DESK_BEFORE_COMMIT) == (
        KILLED
    )
    assert letters(bed, State.PARKED) == len(poison), "no decision without its commit"
    assert await asyncio.to_thread(mortals.run, desk_decides, CrashPoint.DESK_AFTER_COMMIT) == (
        KILLED
    )
    assert letters(bed, State.REPLAYING) == 1, "a decision of a dead desk stands"
    assert await asyncio.to_thread(mortals.run, desk_decides) == 0

    for point in (CrashPoint.DESK_SENT, CrashPoint.DESK_MARKED):
        assert await asyncio.to_thread(mortals.run, desk_sends, point) == KILLED
    await asyncio.to_thread(
        mortals.run_until, desk_sends, lambda: letters(bed, State.REPLAYED) == len(poison)
    )
    rung = retry_topic(bed.topic, bed.group, LADDER[0])
    copies = await read_topic(bed.bootstrap, rung, lambda seen: len(seen) > len(poison))
    assert len(copies) == len(poison) + 1, "the sender that died before it marked sent once more"

    # The rung has one partition: whoever has seen the last event has seen the copies before it.
    last = make_event("key-0", 2, KIND)
    async with open_producer(bed.bootstrap, "test") as producer:
        await producer.send(rung, last.subject, to_value(last), to_headers(last))
    await asyncio.to_thread(
        mortals.run_until, consume_effectively_once, lambda: str(last.id) in effects(bed)
    )
    assert effects(bed) == Counter(str(event.id) for event in (*poison, last))
    for one in parked:
        _, lines = await desk.show(one.id)
        assert [line.what for line in lines] == ["parked", "edited", "replayed", "sent"]


async def _run_until_over(
    bed: Bed, mortals: Mortals, poison: list[Event], good: int
) -> list[Record]:
    """A consumer, until its dead letters are on their topic and so many effects are there."""
    dead = {str(event.id) for event in poison}

    async def has_effects() -> bool:
        return len(await asyncio.to_thread(effects, bed)) >= good

    mortals.start(consume_effectively_once)
    try:
        found = await read_topic(
            bed.bootstrap,
            dead_letter_topic(bed.topic, bed.group),
            lambda seen: {record.headers["ce_id"] for record in seen} >= dead,
        )
        await poll_until(has_effects, "all effects")
    finally:
        mortals.kill()
        mortals.end()
    return found
