"""A member joins a consumer group and leaves it again. Who has to stop working for that?

Three members share twelve partitions, a fourth comes; one of the three is slow to let go. The same
steps for the eager protocol (aiokafka, as this month's workers use it), the cooperative one
(confluent-kafka, cooperative-sticky) and the broker's own (KIP-848). Counted are partitions that
were given up and came back to the same member, partitions whose new records waited while the slow
one stood, and records processed twice or never. No time is judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field

from confluent_kafka import Producer

from month3_messaging.experiments.group_members import (
    SESSION_S,
    Ledger,
    eager_member,
    librdkafka_member,
)
from scalelab.clients.kafka import ensure_topics
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import Kafka

PARTITIONS = 12
OLD = ("m-0", "m-1", "m-2")
NEW = "m-3"
SLOW = OLD[0]
EACH_QUICK = 20
EACH_FULL = 500
_STEP_S = 0.05
_STILL_LOOKS = 80
_WITHIN_S = 90.0
BROKER = {
    "group.initial.rebalance.delay.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "500",
}
"""Members that start together make one rebalance, and the broker's own protocol is not idle for
five seconds between its steps."""

Join = Callable[[str, Ledger], AbstractAsyncContextManager[None]]
"""A running member of that name."""


@dataclass(slots=True)
class Storm:
    """What one group did.

    Joining: partitions revoked, those of them that came back to the same member, those that have
    another owner now. Leaving: revoked by those who stay, and come back. While the slow one stood:
    records that waited by partition, and what the new member worked on already. At the end:
    records processed more than once, and never.
    """

    revoked: int = 0
    returned: int = 0
    moved: int = 0
    left_revoked: int = 0
    left_returned: int = 0
    waiting: dict[int, int] = field(default_factory=dict[int, int])
    slow_had: int = 0
    newcomer_works_on: int = 0
    twice: int = 0
    never: int = 0

    @property
    def stood(self) -> int:
        """Partitions whose records waited."""
        return sum(1 for waiting in self.waiting.values() if waiting)


class Log:
    """The topic: so many records on each partition, more when told to."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
        self._topic = topic
        self.length = 0

    def grow(self, each: int) -> int:
        """Append `each` records to every partition; returns the first of their offsets."""
        first = self.length
        for number in range(each):
            for partition in range(PARTITIONS):
                self._producer.produce(self._topic, f"{number}", partition=partition)
            self._producer.poll(0)
        if left := self._producer.flush(_WITHIN_S):
            raise TimeoutError(f"{left} records were not acknowledged")
        self.length += each
        return first


def run(lab: Lab) -> Result:
    """Each group on a topic of its own."""
    kafka = Kafka("rebalance-kafka", settings=BROKER)
    lab.runtime.start(kafka)
    each = EACH_QUICK if lab.quick else EACH_FULL
    storms = asyncio.run(compare(kafka.bootstrap, "group", each, lab.note))
    return judged(storms, each)


async def compare(
    bootstrap: str, prefix: str, each: int, note: Callable[[str], None]
) -> dict[str, Storm]:
    """The groups one after the other."""
    storms: dict[str, Storm] = {}
    for name in NAMES:
        topic = f"{prefix}.{name.split(' ', maxsplit=1)[0]}"
        await ensure_topics(bootstrap, {topic: PARTITIONS})
        storm = storms[name] = await _measure(bootstrap, topic, name, each)
        note(
            f"{name}: {storm.revoked} revoked, {storm.returned} of them returned,"
            f" {storm.stood} of {PARTITIONS} stood"
        )
    return storms


def _joins(bootstrap: str, topic: str) -> dict[str, Join]:
    common = {"bootstrap.servers": bootstrap, "group.id": f"{topic}.group"}
    cooperative = {
        **common,
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": round(SESSION_S * 1000),
        "heartbeat.interval.ms": 500,
    }
    brokers_own = {**common, "group.protocol": "consumer"}
    return {
        "eager (aiokafka)": lambda name, ledger: eager_member(
            bootstrap, common["group.id"], topic, name, ledger
        ),
        "cooperative (librdkafka)": lambda name, ledger: librdkafka_member(
            cooperative, topic, name, ledger
        ),
        "KIP-848 (librdkafka)": lambda name, ledger: librdkafka_member(
            brokers_own, topic, name, ledger
        ),
    }


NAMES = tuple(_joins("", ""))


async def _measure(bootstrap: str, topic: str, name: str, each: int) -> Storm:
    join, ledger, storm = _joins(bootstrap, topic)[name], Ledger(), Storm()
    log = await asyncio.to_thread(Log, bootstrap, topic)
    await asyncio.to_thread(log.grow, each)
    async with AsyncExitStack() as group:
        for member in OLD:
            await group.enter_async_context(join(member, ledger))
        await _until(ledger, lambda: _is_even(ledger, len(OLD)), "three members share")
        await _until(ledger, lambda: _all_done(ledger, log), "all is processed")
        before = dict(ledger.owner)
        storm.slow_had = len(ledger.owned_by(SLOW))
        ledger.begin(slow=SLOW)
        async with join(NEW, ledger):
            await _come(ledger, log, storm, each)
            storm.moved = sum(ledger.owner[at] != owner for at, owner in before.items())
            await _until(ledger, lambda: _all_done(ledger, log), "all is processed")
            ledger.begin(leaving=NEW)
        await _until(ledger, lambda: _is_even(ledger, len(OLD)), "three members share again")
        storm.left_revoked, storm.left_returned = ledger.revoked, ledger.returned
        await asyncio.to_thread(log.grow, each)
        await _until(ledger, lambda: _all_done(ledger, log), "all is processed")
    storm.twice = sum(times - 1 for times in ledger.processed.values())
    storm.never = PARTITIONS * log.length - len(ledger.processed)
    return storm


async def _come(ledger: Ledger, log: Log, storm: Storm, each: int) -> None:
    """A member has come: look while the slow one stands, and again when all is settled."""
    try:
        await _until(ledger, lambda: ledger.let_go >= set(OLD), "every old member lets go")
        first = await asyncio.to_thread(log.grow, each)
        await _until_still(ledger)
        storm.waiting = {at: each - ledger.done_from(at, first) for at in range(PARTITIONS)}
        storm.newcomer_works_on = sum(storm.waiting[at] == 0 for at in ledger.owned_by(NEW))
    finally:
        ledger.gate.set()
    await _until(ledger, lambda: _is_even(ledger, len(OLD) + 1), "four members share")
    storm.revoked, storm.returned = ledger.revoked, ledger.returned


def _is_even(ledger: Ledger, members: int) -> bool:
    owned = ledger.owned()
    return len(owned) == members and set(owned.values()) == {PARTITIONS // members}


def _all_done(ledger: Ledger, log: Log) -> bool:
    return len(ledger.processed) >= PARTITIONS * log.length


async def _until(ledger: Ledger, holds: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(_WITHIN_S):
            while not holds():
                if ledger.failures:
                    raise RuntimeError("; ".join(ledger.failures))
                await asyncio.sleep(_STEP_S)
    except TimeoutError as error:
        raise TimeoutError(f"not within {_WITHIN_S} s: {what}") from error


async def _until_still(ledger: Ledger) -> None:
    """Return once nothing was processed and no partition changed hands in so many looks.

    Looks, not seconds: where this process stands still, so may the members.
    """
    last, looks = (0, dict[int, str]()), 0
    while looks < _STILL_LOOKS:
        now = (len(ledger.processed), dict(ledger.owner))
        looks = looks + 1 if now == last else 0
        last = now
        await asyncio.sleep(_STEP_S)


def judged(storms: Mapping[str, Storm], each: int) -> Result:
    """What the counts say about each protocol."""
    return Result(
        _arms(storms),
        (*_claims_of_revoking(storms), *_claims_of_standing(storms)),
        Plot(Axis("protocol"), Axis("partitions that stood still"), "bars"),
        notes=(
            f"{each} records came to each partition while the slow member stood in its callback,"
            " and nothing more was processed for a while when they were counted. How long a"
            " group stands is up to its slowest member; which part of it stands, to the protocol.",
            "aiokafka deals partitions out in turns (round robin), so most change hands when the"
            " number of members does; a sticky assignor would bring more of them back, and the"
            " group would stand as long.",
        ),
    )


def _claims_of_revoking(storms: Mapping[str, Storm]) -> tuple[Claim, ...]:
    eager, cooperative, brokers_own = (storms[name] for name in NAMES)
    fair = PARTITIONS // (len(OLD) + 1)
    return (
        Claim(
            "Eager: whoever comes or goes, every member gives up all it has, and gets part of it"
            " back.",
            eager.revoked == PARTITIONS
            and eager.left_revoked == PARTITIONS - fair
            and eager.returned + eager.left_returned > 0,
            f"joining: {eager.revoked} of {PARTITIONS} revoked, {eager.returned} came back;"
            f" leaving: {eager.left_revoked} revoked, {eager.left_returned} came back",
        ),
        Claim(
            "Cooperative, and the broker's own: only what changes hands is revoked; nothing comes"
            " back, and nobody gives up anything when a member leaves.",
            all(
                (one.revoked, one.returned, one.moved, one.left_revoked) == (fair, 0, fair, 0)
                for one in (cooperative, brokers_own)
            ),
            "; ".join(
                f"{one.revoked} revoked, {one.returned} came back, {one.moved} moved,"
                f" {one.left_revoked} revoked when it left"
                for one in (cooperative, brokers_own)
            ),
        ),
    )


def _claims_of_standing(storms: Mapping[str, Storm]) -> tuple[Claim, ...]:
    eager, cooperative, brokers_own = (storms[name] for name in NAMES)
    return (
        Claim(
            "While one member is slow to let go, an eager group stands whole; a cooperative one"
            " stands where it is slow and where partitions are on their way; with the broker's own"
            " protocol only the slow member stands.",
            eager.stood == PARTITIONS
            and brokers_own.stood == brokers_own.slow_had
            and brokers_own.stood < cooperative.stood < eager.stood,
            f"{eager.stood}, {cooperative.stood} and {brokers_own.stood} of {PARTITIONS} partitions"
            f" stood",
        ),
        Claim(
            "Only the broker's own protocol lets the newcomer work before the slow one has let go.",
            (eager.newcomer_works_on, cooperative.newcomer_works_on) == (0, 0)
            and brokers_own.newcomer_works_on > 0,
            f"it worked on {eager.newcomer_works_on}, {cooperative.newcomer_works_on} and"
            f" {brokers_own.newcomer_works_on} partitions",
        ),
        Claim(
            "Who commits before letting go processes every record once, by any protocol.",
            all(one.twice == one.never == 0 for one in storms.values()),
            ", ".join(f"{one.twice} twice and {one.never} never" for one in storms.values()),
        ),
    )


def _arms(storms: Mapping[str, Storm]) -> tuple[Arm, ...]:
    return tuple(
        Arm(
            name,
            "control" if name == NAMES[0] else "treatment",
            {
                "revoked_joining": storm.revoked,
                "returned_joining": storm.returned,
                "moved_joining": storm.moved,
                "revoked_leaving": storm.left_revoked,
                "stood_partitions": storm.stood,
                "waiting_records": sum(storm.waiting.values()),
                "newcomer_works_on": storm.newcomer_works_on,
                "processed_twice": storm.twice,
                "never_processed": storm.never,
            },
            ((float(at), float(storm.stood)),),
        )
        for at, (name, storm) in enumerate(storms.items())
    )


EXPERIMENT = Experiment(
    slug="consumer-rebalance",
    question="Who has to stop working when a member joins a consumer group?",
    varied="the protocol by which a group shares its partitions",
    fixed="partitions, members, records, one member that is slow to let go",
    run=run,
    topics=("P7.3",),
    needs=("kafka",),
)
