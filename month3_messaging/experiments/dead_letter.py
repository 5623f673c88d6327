"""One event of thousands can never be carried out. What becomes of the others?

The same events, a poison one among them, for three consumers on a real Kafka: one that tries it
again for ever; one that moves it aside, rung by rung, to the dead letters; one that holds its key
until it is parked. Counted is what was handled, when, and how often the poison was tried.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from uuid import UUID, uuid4

from month3_messaging.broker import Event, to_headers, to_value
from month3_messaging.experiments.messaging_bed import records_of
from month3_messaging.workers import (
    ERROR_CODE,
    ERROR_STACK,
    ORIGIN_OFFSET,
    TRIES_MAX,
    ConsumerSettings,
    EventConsumer,
    OnFailure,
    dead_letter_topic,
    ladder_of,
)
from scalelab.clients.kafka import Message, Position, ensure_topics, open_producer
from scalelab.errors import Unavailable
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import Kafka
from scalelab.resilience import Backoff
from scalelab.telemetry import TelemetrySettings, build_telemetry

PARTITIONS = 3
KEYS = 30
EACH_QUICK = 20
EACH_FULL = 500
_KIND = "lab.order.placed.v1"
_POISONED_KEY = "key-0"
_POISON_AT = 2
_TRIES_WITHOUT_END = 25
_WITHIN_S = 120.0
_LADDER = ladder_of(Backoff(first_s=0.2, factor=2.0, cap_s=1.0), tries=TRIES_MAX)


@dataclass
class Seen:
    """What a consumer's handler met. order: handled events, in order. tries: of the poison.
    letters: records on the dead-letter topic, and whether each tells cause, stack and origin.
    handled_at: how many events had been handled when the poison was tried."""

    order: list[Event] = field(default_factory=list[Event])
    tries: int = 0
    letters: int = 0
    told: bool = False
    handled_at: list[int] = field(default_factory=list[int])

    @property
    def meanwhile(self) -> int:
        """Events handled between the first try of the poison and the last."""
        return self.handled_at[-1] - self.handled_at[0]


@dataclass(frozen=True, slots=True)
class Load:
    """The published events. behind: those after the poison in its partition."""

    events: Sequence[Event]
    poison: UUID
    behind: frozenset[UUID]

    def behind_in(self, seen: Seen) -> int:
        """How many of the events behind the poison were handled."""
        return sum(1 for event in seen.order if event.id in self.behind)


class TriesForEver(Unavailable):
    """What a handler raises that knows no end: the consumer tries again in place."""


def run(lab: Lab) -> Result:
    """Each consumer on a topic of its own."""
    kafka = Kafka("poison-kafka")
    lab.runtime.start(kafka)
    return asyncio.run(_run(lab, kafka.bootstrap))


async def _run(lab: Lab, bootstrap: str) -> Result:
    each = EACH_QUICK if lab.quick else EACH_FULL
    arms: dict[str, tuple[Load, Seen]] = {}
    for name, on_failure, error in (
        ("tries for ever", OnFailure.MOVE_ASIDE, TriesForEver),
        ("moves it aside", OnFailure.MOVE_ASIDE, LookupError),
        ("holds its key", OnFailure.HOLD_KEY, LookupError),
    ):
        topic = f"orders.{name.replace(' ', '-')}"
        await ensure_topics(bootstrap, {topic: PARTITIONS})
        load = await _publish(bootstrap, topic, each)
        seen = await _consume(bootstrap, topic, load, on_failure, error, lab.random())
        arms[name] = load, seen
        lab.note(f"{name}: {load.behind_in(seen)} of {len(load.behind)} behind it handled")
    return _judged(arms)


async def _publish(bootstrap: str, topic: str, each: int) -> Load:
    now = datetime.now(UTC)
    events = [
        Event(uuid4(), _KIND, "/lab", f"key-{key}", now, {"number": number})
        for number in range(each)
        for key in range(KEYS)
    ]
    async with open_producer(bootstrap, "poison") as producer:
        positions: list[Position] = await producer.send_all(
            Message(topic, event.subject, to_value(event), to_headers(event)) for event in events
        )
    at = next(n for n, one in enumerate(events) if _is_poison(one))
    bad = positions[at]
    behind = frozenset(
        event.id
        for event, place in zip(events, positions, strict=True)
        if place.partition == bad.partition and place.offset > bad.offset
    )
    return Load(events, events[at].id, behind)


def _is_poison(event: Event) -> bool:
    return event.subject == _POISONED_KEY and event.data["number"] == _POISON_AT


async def _consume(
    bootstrap: str,
    topic: str,
    load: Load,
    on_failure: OnFailure,
    error: type[Exception],
    rng: Random,
) -> Seen:
    seen = Seen()

    async def handle(event: Event) -> None:
        if event.id == load.poison:
            seen.tries += 1
            seen.handled_at.append(len(seen.order))
            raise error("nobody can carry this out")
        seen.order.append(event)

    def ended() -> bool:
        if error is TriesForEver:
            free = len(load.events) - len(load.behind) - 1
            return seen.tries >= _TRIES_WITHOUT_END and len(seen.order) >= free
        return seen.tries >= TRIES_MAX and len(seen.order) >= len(load.events) - 1

    async with EventConsumer(
        bootstrap,
        "lab",
        [topic],
        {_KIND: handle},
        telemetry=build_telemetry(TelemetrySettings(service="lab"), stream=io.StringIO()),
        settings=ConsumerSettings(
            ladder=_LADDER, on_failure=on_failure, backoff_s=(0.02, 0.1), revoke_grace_s=0.0
        ),
        rng=rng,
    ):
        await _until(ended)
        if error is not TriesForEver:
            await _until_async(lambda: _has_letter(bootstrap, topic))
    letters = await records_of(bootstrap, dead_letter_topic(topic, "lab"))
    seen.letters = len(letters)
    wanted = {ERROR_CODE, ERROR_STACK, ORIGIN_OFFSET}
    seen.told = all(wanted <= letter.headers.keys() for letter in letters)
    return seen


async def _has_letter(bootstrap: str, topic: str) -> bool:
    return bool(await records_of(bootstrap, dead_letter_topic(topic, "lab")))


async def _until(holds: Callable[[], bool]) -> None:
    async def check() -> bool:
        return holds()

    await _until_async(check)


async def _until_async(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_WITHIN_S):
        while not await holds():  # noqa: ASYNC110 - what is awaited happens on a server
            await asyncio.sleep(0.05)


def _inversions(seen: Seen) -> int:
    """Handled events that came after a later one of their key."""
    highest: dict[str, int] = {}
    found = 0
    for event in seen.order:
        number = int(str(event.data["number"]))
        found += number < highest.get(event.subject, -1)
        highest[event.subject] = max(number, highest.get(event.subject, -1))
    return found


def _judged(arms: dict[str, tuple[Load, Seen]]) -> Result:
    (first, stuck), *others = arms.values()
    aside, holding = (seen for _, seen in others)
    behind = [(load.behind_in(seen), len(load.behind)) for load, seen in arms.values()]
    shape = (
        Claim(
            "Tried for ever, it stops its partition: nothing behind it is handled, all else is.",
            behind[0][0] == 0 and len(stuck.order) == len(first.events) - behind[0][1] - 1,
            f"0 of {behind[0][1]} behind it after {stuck.tries} tries"
            if behind[0][0] == 0
            else f"{behind[0][0]} handled behind it",
        ),
        Claim(
            f"Moved aside or with its key held it is parked at try {TRIES_MAX}, with cause, stack"
            " and origin.",
            all(s.tries == TRIES_MAX and s.letters == 1 and s.told for s in (aside, holding)),
            f"tries {aside.tries} and {holding.tries}, letters {aside.letters}, {holding.letters}",
        ),
        Claim(
            "Its partition goes on: every other event is handled, once, per key in order.",
            all(
                len(seen.order) == len({event.id for event in seen.order}) == len(load.events) - 1
                and behind_ == all_
                and _inversions(seen) == 0
                for (load, seen), (behind_, all_) in zip(others, behind[1:], strict=True)
            ),
            ", ".join(f"{some} of {all_} behind it" for some, all_ in behind[1:]),
        ),
        Claim(
            "While the key is held, others are handled.",
            holding.meanwhile > 0,
            f"{holding.meanwhile} events between its first try and its last",
        ),
    )
    points = [
        Arm(
            name,
            "control" if seen is stuck else "treatment",
            {
                "events": len(load.events),
                "handled": len(seen.order),
                "handled_behind": load.behind_in(seen),
                "tries": seen.tries,
                "letters": seen.letters,
            },
            ((0.0, 100.0 * load.behind_in(seen) / len(load.behind)),),
        )
        for name, (load, seen) in arms.items()
    ]
    plot = Plot(Axis(""), Axis("handled of what stands behind the poison (%)"), "bars")
    return Result(tuple(points), shape, plot)


EXPERIMENT = Experiment(
    slug="dead-letter",
    question="One event can never be carried out: what becomes of the events behind it?",
    varied="what the consumer does after a failure: again for ever, aside, or hold the key",
    fixed="events, keys, partitions, the place of the poison; five tries where they are bounded",
    run=run,
    topics=("C17", "R8"),
    needs=("kafka",),
)
