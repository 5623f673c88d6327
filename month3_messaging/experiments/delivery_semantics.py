"""What is lost and what is doubled when a consumer dies, by the order of effect and offset?

Consumers are killed (SIGKILL) at four named points in turn, each at its second event, and the one
after them goes on. Offset first: at most once. Effect first: at least once. Effect and inbox row in
one transaction, then the offset: effectively once. Afterwards the effects of every event are
counted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import psycopg

from month3_messaging.broker import Event, to_headers, to_value
from month3_messaging.crash_points import CrashPoint
from month3_messaging.experiments.messaging_bed import Messaging, start_messaging
from month3_messaging.experiments.mortal_process import (
    KIND,
    Bed,
    Role,
    consume_at_least_once,
    consume_at_most_once,
    consume_effectively_once,
)
from month3_messaging.experiments.mortals import KILLED, Mortals
from scalelab.clients.kafka import Message, open_producer
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result

ROUNDS_QUICK = 3
ROUNDS_FULL = 50
_KEYS = 4
_EVENTS_A_KILL = 4
_PASSAGE = 2
_POINTS = (
    CrashPoint.CONSUMER_RECEIVED,
    CrashPoint.CONSUMER_BEFORE_COMMIT,
    CrashPoint.CONSUMER_HANDLED,
    CrashPoint.CONSUMER_COMMITTED,
)
_ARMS: dict[str, Role] = {
    "at most once": consume_at_most_once,
    "at least once": consume_at_least_once,
    "effectively once": consume_effectively_once,
}


@dataclass(frozen=True, slots=True)
class Tally:
    """kills: how many. events: published. lost: without an effect. doubled: effects too many."""

    kills: int
    events: int
    lost: int
    doubled: int


def run(lab: Lab) -> Result:
    """The same kills for each arm."""
    messaging = start_messaging(lab.runtime, "delivery")
    rounds = ROUNDS_QUICK if lab.quick else ROUNDS_FULL
    tallies: dict[str, Tally] = {}
    for name, role in _ARMS.items():
        tallies[name] = _killed(messaging, role, rounds)
        lab.note(f"{name}: {tallies[name]}")
    return _judged(tallies, rounds)


def _killed(messaging: Messaging, role: Role, rounds: int) -> Tally:
    bed = messaging.bed(role.__name__)
    kills = rounds * len(_POINTS)
    published = asyncio.run(_publish(bed, kills * _EVENTS_A_KILL))
    with Mortals(bed) as mortals:
        for turn in range(kills):
            code = mortals.run(role, _POINTS[turn % len(_POINTS)], _PASSAGE)
            if code != KILLED:
                raise RuntimeError(f"a process that was to be killed ended with {code}")
        # Nobody dies any more: who has seen each key's last event has seen all before them.
        last = asyncio.run(_publish(bed, _KEYS))
        mortals.run_until(role, lambda: set(last) <= set(_effects(bed)))
    effects = _effects(bed)
    events = [*published, *last]
    return Tally(
        kills,
        len(events),
        sum(1 for event in events if not effects[event]),
        sum(effects[event] - 1 for event in events if effects[event]),
    )


async def _publish(bed: Bed, number: int) -> list[str]:
    now = datetime.now(UTC)
    events = [
        Event(uuid4(), KIND, "/lab", f"key-{at % _KEYS}", now, {"number": at})
        for at in range(number)
    ]
    async with open_producer(bed.bootstrap, "delivery") as producer:
        await producer.send_all(
            Message(bed.topic, event.subject, to_value(event), to_headers(event))
            for event in events
        )
    return [str(event.id) for event in events]


def _effects(bed: Bed) -> Counter[str]:
    with psycopg.connect(bed.dsn) as conn:
        return Counter(str(row[0]) for row in conn.execute("SELECT event_id FROM effect"))


def _judged(tallies: dict[str, Tally], rounds: int) -> Result:
    most, least, once = tallies.values()
    shape = (
        Claim(
            "Offset first loses the event in hand at two points of four, and doubles none.",
            (most.lost, most.doubled) == (2 * rounds, 0),
            f"{most.lost} lost and {most.doubled} doubled in {most.kills} kills",
        ),
        Claim(
            "Effect first doubles the event in hand at one point of four, and loses none.",
            (least.lost, least.doubled) == (0, rounds),
            f"{least.lost} lost and {least.doubled} doubled in {least.kills} kills",
        ),
        Claim(
            "An inbox row in the effect's transaction loses none and doubles none.",
            (once.lost, once.doubled) == (0, 0),
            f"{once.lost} lost and {once.doubled} doubled in {once.kills} kills",
        ),
    )
    arms = tuple(
        Arm(
            name,
            "treatment" if found is once else "control",
            {
                "kills": found.kills,
                "events": found.events,
                "lost": found.lost,
                "doubled": found.doubled,
            },
            ((0.0, float(found.lost)), (1.0, float(found.doubled))),
        )
        for name, found in tallies.items()
    )
    plot = Plot(Axis("0: lost, 1: doubled"), Axis("events"), "bars")
    return Result(
        arms,
        shape,
        plot,
        notes=(
            "The points stand around effect and offset, so the shares say how they were chosen; a "
            "crash at a random instant hits a gap more rarely.",
            "Which points hurt: offset first loses between the offset and the effect's commit;"
            " effect first doubles between the effect's commit and the offset.",
        ),
    )


EXPERIMENT = Experiment(
    slug="delivery-semantics",
    question="What does a consumer lose or do twice when it dies, and what ends both?",
    varied="the order of effect and offset, and an inbox row in the effect's transaction",
    fixed="number and points of the kills, events and keys",
    run=run,
    topics=("P7.3",),
    needs=("postgres", "kafka"),
)
