"""The same topic on a task queue and on a log: what can each do that the other cannot?

RabbitMQ and Kafka behind one interface, the same steps on both: members that compete, a group that
comes late, several groups, a member that leaves work behind, one that dies of a message. Nothing
is timed; deliveries, members and stored messages are counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from month3_messaging.broker import (
    Broker,
    Delivery,
    Message,
    Subscription,
    Topic,
    dead_letters_of,
)
from month3_messaging.broker.kafka import KafkaBrokerSettings, open_kafka
from month3_messaging.broker.rabbitmq import RabbitBrokerSettings, open_rabbitmq
from month3_messaging.experiments.broker_stores import Log, Queues, Store
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result, Role
from scalelab.lab.servers import Kafka, RabbitMQ

LANES = 3
KEYS = 10
TRIES = 3
TURNS = 5
FEW = 20  # acks that are on their way together; RabbitMQ's channels hold back those over 32
MEMBERS_QUICK = (1, LANES, 2 * LANES)
MEMBERS_FULL = (1, 2, 3, 4, 5, 6, 9)
MESSAGES_QUICK = 60
MESSAGES_FULL = 600
_LAST = "last"
_BATCH = KEYS * 6
_ROUNDS = 3
_WITHIN_S = 90.0


@dataclass(frozen=True, slots=True)
class Seen:
    """at_work: members with a message in hand, by members of the group. scattered: keys whose
    messages were in several members' hands. keyed_at_work: of 3 members on a keyed topic.
    late: what a group was given of the time before it. stored, left: messages on the broker for
    three groups, before and after all have read. repeated: deliveries to the member after one that
    left one of `FEW` undone. counts: delivery counts of a message that nobody survives."""

    messages: int
    at_work: dict[int, int]
    scattered: int
    keyed_at_work: int
    late: int
    stored: int
    left: int
    repeated: int
    counts: list[int]
    parked: bool


def batch(number: int, first: int = 0) -> list[Message]:
    """So many messages, the keys in turn, numbered from `first`."""
    return [Message(f"key-{at % KEYS}", f"{first + at}".encode()) for at in range(number)]


@asynccontextmanager
async def members(
    broker: Broker, topic: Topic, group: str, number: int
) -> AsyncGenerator[dict[str, Subscription]]:
    """So many members of a group, by name."""
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(broker.subscribe(topic, group, member=name))
            for name in (f"{group}-{at}" for at in range(number))
        }


Hands = dict[str, list[Delivery]]


def of(topic: Topic, name: str = "work") -> str:
    """The name of a group that reads this topic and no other: what a Kafka group must be."""
    return f"{topic.name}.{name}"


async def in_hand(group: dict[str, Subscription], number: int) -> Hands | None:
    """Let all members take until `number` messages are in their hands, then ack them.

    None if one came twice: lanes were being given to other members meanwhile.
    """
    hands: Hands = {name: [] for name in group}

    async def take(name: str) -> None:
        while len({one.value for taken in hands.values() for one in taken}) < number:
            hands[name] += await group[name].receive(number, wait_s=0.2)

    async with asyncio.timeout(_WITHIN_S), asyncio.TaskGroup() as tasks:
        for name in group:
            tasks.create_task(take(name))
    for name, taken in hands.items():
        for delivery in taken:
            await group[name].ack(delivery)
    whole = sum(map(len, hands.values())) == number
    return {name: taken for name, taken in hands.items() if taken} if whole else None


async def competing(broker: Broker, topic: Topic, number: int, expected: int) -> list[Hands]:
    """Rounds of one batch each, from the first in which `expected` members were at work.

    A group takes a moment to agree, so what was before is not judged. On a keyed topic as many
    messages can be in hand as it has lanes.
    """
    await broker.declare(topic, [of(topic)])
    rounds: list[Hands] = []
    published = 0
    async with members(broker, topic, of(topic), number) as group, asyncio.timeout(_WITHIN_S):
        while len(rounds) < _ROUNDS:
            await broker.publish(topic, batch(_BATCH, published))
            published += _BATCH
            hands = await in_hand(group, topic.lanes if topic.keyed else _BATCH)
            if hands is not None and (rounds or len(hands) == expected):
                rounds.append(hands)
    return rounds


def scattered(hands: Hands) -> int:
    """Keys that more than one member has messages of."""
    holders: defaultdict[str, set[str]] = defaultdict(set)
    for name, taken in hands.items():
        for one in taken:
            holders[one.key].add(name)
    return sum(len(names) > 1 for names in holders.values())


async def read(reader: Subscription, last: str) -> list[str]:
    """The keys of everything up to the message of key `last`, acked."""
    keys: list[str] = []
    async with asyncio.timeout(_WITHIN_S):
        while last not in keys:
            for one in await reader.receive(wait_s=0.5):
                keys.append(one.key)
                await reader.ack(one)
    return keys


async def come_late(broker: Broker, topic: Topic, number: int) -> int:
    """How many of the messages from before its time a new group is given."""
    await broker.declare(topic, [of(topic, "early")])
    await broker.publish(topic, batch(number))
    await broker.declare(topic, [of(topic, "early"), of(topic, "late")])
    await broker.publish(topic, [Message(_LAST, b"")])
    async with broker.subscribe(topic, of(topic, "late"), member="late") as reader:
        return len(await read(reader, _LAST)) - 1


async def copies(store: Store, topic: Topic, number: int) -> tuple[int, int]:
    """Messages stored for three groups, and how many of them are left when all have read."""
    groups = [of(topic, name) for name in ("bill", "pack", "count")]
    await store.broker.declare(topic, groups)
    await store.broker.publish(topic, [*batch(number - 1), Message(_LAST, b"")])
    stored = await settled(store, topic, groups, {number, number * len(groups)})
    for group in groups:
        async with store.broker.subscribe(topic, group, member=group) as reader:
            await read(reader, _LAST)
    left = await store.stored(topic, groups)
    async with asyncio.timeout(_WITHIN_S):
        # A queue hears an ack soon, not at once: who leaves early finds some messages again.
        while left not in (0, number):
            for group in groups:
                async with store.broker.subscribe(topic, group, member=group) as reader:
                    for one in await reader.receive(wait_s=0.5):
                        await reader.ack(one)
            left = await store.stored(topic, groups)
    return stored, left


async def settled(store: Store, topic: Topic, groups: Sequence[str], wanted: set[int]) -> int:
    """What is stored once it is one of `wanted`: a queue counts its messages a moment later.

    What is stored now, if it never is.
    """
    deadline_s = asyncio.get_running_loop().time() + 30.0
    while True:
        found = await store.stored(topic, groups)
        if found in wanted or asyncio.get_running_loop().time() > deadline_s:
            return found
        await asyncio.sleep(0.05)


async def leave_one(broker: Broker, topic: Topic) -> int:
    """How many of `FEW` the next member is given when the first left one undone, the oldest."""
    number = FEW
    await broker.declare(topic, [of(topic)])
    await broker.publish(topic, batch(number))
    async with broker.subscribe(topic, of(topic), member="m", in_hand=number) as reader:
        taken: list[Delivery] = []
        async with asyncio.timeout(_WITHIN_S):
            while len(taken) < number:
                taken += await reader.receive(number, wait_s=0.5)
        for one in taken:
            if one.value != b"0":
                await reader.ack(one)
    await broker.publish(topic, [Message(_LAST, b"")])
    async with broker.subscribe(topic, of(topic), member="m", in_hand=number) as reader:
        return len(await read(reader, _LAST)) - 1


async def survive_none(broker: Broker, topic: Topic) -> tuple[list[int], bool]:
    """Members take one message and leave without an answer, as they do when it kills them."""
    await broker.declare(topic, [of(topic)])
    await broker.publish(topic, [Message("poison", b"")])
    parked, counts = dead_letters_of(topic, of(topic)), list[int]()
    async with (
        broker.subscribe(parked, parked.name, member="desk") as desk,
        asyncio.timeout(_WITHIN_S),
    ):
        while len(counts) < TURNS:
            async with broker.subscribe(topic, of(topic), member="m") as reader:
                taken = False
                while not taken:
                    for one in await reader.receive(1, wait_s=0.2):
                        counts.append(one.delivery_count)
                        taken = True
                    if not taken and await desk.receive(1, wait_s=0.2):
                        return counts, True
    return counts, False


async def look(
    store: Store, prefix: str, sizes: Sequence[int], number: int, *, shared: bool
) -> Seen:
    """All steps, each on a topic of its own. shared: members share lanes and nothing smaller."""
    broker = store.broker

    def topic(name: str, *, lanes: int = LANES, keyed: bool = False) -> Topic:
        return Topic(f"{prefix}{name}", lanes, keyed, TRIES)

    rounds = {
        size: await competing(
            broker, topic(f"of-{size}"), size, min(size, LANES) if shared else size
        )
        for size in sizes
    }
    keyed = await competing(broker, topic("keyed", keyed=True), LANES, LANES if shared else 1)
    stored, left = await copies(store, topic("copies", lanes=1), number)
    counts, parked = await survive_none(broker, topic("poison", lanes=1))
    return Seen(
        messages=number,
        at_work={size: max(map(len, of_size)) for size, of_size in rounds.items()},
        scattered=min(map(scattered, rounds[LANES])),
        keyed_at_work=max(map(len, keyed)),
        late=await come_late(broker, topic("late", lanes=1), number),
        stored=stored,
        left=left,
        repeated=await leave_one(broker, topic("left", lanes=1)),
        counts=counts,
        parked=parked,
    )


async def compare(
    rabbit_url: str, bootstrap: str, prefix: str, *, sizes: Sequence[int], number: int
) -> tuple[Seen, Seen]:
    """The queue's and the log's answers. sizes: of groups, `LANES` among them. number: messages.
    Names of topics and groups begin with `prefix`."""
    async with open_rabbitmq(RabbitBrokerSettings(rabbit_url)) as broker:
        queue = await look(Queues(broker), prefix, sizes, number, shared=False)
    async with open_kafka(KafkaBrokerSettings(bootstrap)) as broker:
        log = await look(Log(broker, bootstrap), prefix, sizes, number, shared=True)
    return queue, log


def run(lab: Lab) -> Result:
    """Both brokers, one after the other."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it tells of every rebalance
    rabbit, kafka = RabbitMQ("versus-rabbitmq"), Kafka("versus-kafka")
    lab.runtime.start(rabbit, kafka)
    queue, log = asyncio.run(
        compare(
            rabbit.url,
            kafka.bootstrap,
            "versus-",
            sizes=MEMBERS_QUICK if lab.quick else MEMBERS_FULL,
            number=MESSAGES_QUICK if lab.quick else MESSAGES_FULL,
        )
    )
    lab.note(f"queue: {queue}")
    lab.note(f"log: {log}")
    return judged(queue, log)


def judged(queue: Seen, log: Seen) -> Result:
    """Arms and claims."""
    number = queue.messages
    theory = tuple((float(many), float(min(many, LANES))) for many in log.at_work)
    return Result(
        arms=(
            _arm("task queue (RabbitMQ)", "control", queue),
            _arm("log (Kafka)", "treatment", log),
            Arm("theory: a lane has one reader", "theory", {}, theory),
        ),
        shape=(
            Claim(
                "every member of a queue's group works; of a log's, as many as it has lanes",
                queue.at_work == {many: many for many in queue.at_work}
                and log.at_work == {many: min(many, LANES) for many in log.at_work},
                f"at work by members: {queue.at_work} and {log.at_work}",
            ),
            Claim(
                "competing members scatter every key of a queue, and no key of a log",
                (queue.scattered, log.scattered) == (KEYS, 0),
                f"{queue.scattered} and {log.scattered} of {KEYS} keys in several hands",
            ),
            Claim(
                "where a key's order is kept, the queue has one member at work, the log one a lane",
                (queue.keyed_at_work, log.keyed_at_work) == (1, LANES),
                f"{queue.keyed_at_work} and {log.keyed_at_work} of {LANES} members",
            ),
            Claim(
                "a group that comes late is given nothing by a queue and everything by a log",
                (queue.late, log.late) == (0, number),
                f"{queue.late} and {log.late} of {number} earlier messages",
            ),
            Claim(
                "three groups are three copies on queues, none after an ack; a log keeps one",
                (queue.stored, queue.left, log.stored, log.left) == (3 * number, 0, number, number),
                f"stored {queue.stored} and {log.stored}, after all had read"
                f" {queue.left} and {log.left}, of {number}",
            ),
            Claim(
                "a member that leaves its oldest message undone: a queue repeats it, a log all",
                (queue.repeated, log.repeated) == (1, FEW),
                f"{queue.repeated} and {log.repeated} of {FEW} delivered again",
            ),
            Claim(
                "of a message that no member survives a queue keeps count and parks it",
                (queue.counts, queue.parked) == (list(range(1, TRIES + 1)), True)
                and (log.counts, log.parked) == ([1] * TURNS, False),
                f"delivery counts {queue.counts} and {log.counts}",
            ),
        ),
        plot=Plot(Axis("members of the group"), Axis("members with a message in hand")),
        notes=(
            f"{LANES} lanes, at most {TRIES} deliveries. `nack` is counted by both; what differs is"
            " a member that is gone without a word.",
            "The log's consumer of this month's order path ends a poison message by its own means:"
            " a time-out in the handler, and retry topics whose count travels with the event.",
        ),
    )


def _arm(name: str, role: Role, seen: Seen) -> Arm:
    return Arm(
        name,
        role,
        {
            "messages": seen.messages,
            "keys_scattered": seen.scattered,
            "at_work_keyed": seen.keyed_at_work,
            "late_group_got": seen.late,
            "stored_for_three": seen.stored,
            "left_after_reading": seen.left,
            "repeated": seen.repeated,
        },
        tuple((float(many), float(found)) for many, found in seen.at_work.items()),
    )


EXPERIMENT = Experiment(
    slug="task-queue-vs-log",
    question="What can a task queue do that a log cannot, and the other way round?",
    varied="the broker behind one interface: RabbitMQ's queues or Kafka's log",
    fixed="topics, messages, keys, members and the code that reads",
    run=run,
    topics=("A4", "D3"),
    needs=("rabbitmq", "kafka"),
)
