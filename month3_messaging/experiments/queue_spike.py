"""A spike of k times the capacity. What does a queue before a slow worker change?

Time goes in ticks: in each the same requests arrive and the worker carries out at most `CAPACITY`
of them. Called directly, it has as many threads and a bounded waiting room (a `BlockingPool`);
behind a queue it takes as many messages as it can, and RabbitMQ keeps the rest. Nothing is timed:
requests are counted, and their waiting in ticks.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field

from month3_messaging.broker import Broker, Message, Subscription, Topic
from month3_messaging.broker.rabbitmq import RabbitBrokerSettings, open_rabbitmq, queue_name
from month3_messaging.concurrency import BlockingPool
from scalelab.errors import OutcomeUnknown, Overloaded
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result, Role
from scalelab.lab.servers import RabbitMQ

CAPACITY = 10  # requests a tick
USUAL = 5
SEATS = 20
SPIKE_TICKS = 10
LASTING_TICKS = 30
LASTING = CAPACITY + 2
TIMES_QUICK = (1, 2, 3)
TIMES_FULL = (1, 2, 3, 5, 8)
_GROUP = "workers"
_WITHIN_S = 60.0


@dataclass(slots=True)
class Seen:
    """Counted in requests. backlog: after each tick. longest: waiting of one that was done, in
    ticks. repeated: deliveries of what was done before."""

    offered: int = 0
    refused: int = 0
    done: int = 0
    repeated: int = 0
    longest: int = 0
    backlog: list[int] = field(default_factory=list[int])

    @property
    def lost(self) -> int:
        """Neither done nor refused."""
        return self.offered - self.refused - self.done


def arrivals(times: int) -> Iterator[int]:
    """Requests of each tick: usual, the spike, usual for ever."""
    yield from itertools.repeat(USUAL, 5)
    yield from itertools.repeat(times * CAPACITY, SPIKE_TICKS)
    yield from itertools.repeat(USUAL)


def arithmetic(pattern: Iterable[int], seats: int | None) -> Seen:
    """What must come out: a room is its load less its capacity. seats: None for no bound.

    Goes on until a tick after which nothing waits, once `pattern` had its peak or its end.
    """
    seen, held = Seen(), 0
    for number in pattern:
        taken = number if seats is None else min(number, CAPACITY + seats - held)
        held += taken
        seen.offered += number
        seen.refused += number - taken
        seen.longest = max(seen.longest, (held - 1) // CAPACITY)
        seen.done += min(CAPACITY, held)
        held -= min(CAPACITY, held)
        seen.backlog.append(held)
        if over(seen):
            break
    return seen


def over(seen: Seen) -> bool:
    """The spike is past and nothing waits."""
    return len(seen.backlog) >= 5 + SPIKE_TICKS and seen.backlog[-1] == 0


class Ticks:
    """Calls that each last until the tick after their beginning."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._now = 0
        self._at_work = 0

    def work(self) -> int:
        """One call; returns the tick in which it was done."""
        with self._changed:
            began = self._now
            self._at_work += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._now > began)
            self._at_work -= 1
            return began

    def advance(self, at_work: int) -> None:
        """End the tick, once so many calls are at work in it."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._at_work == at_work, _WITHIN_S):
                raise OutcomeUnknown(f"{self._at_work} calls at work instead of {at_work}")
            self._now += 1
            self._changed.notify_all()


def directly(pattern: Iterable[int]) -> Seen:
    """Requests are calls: a thread each, a bounded room before the threads, a refusal beyond."""
    seen, ticks = Seen(), Ticks()
    held: deque[tuple[int, Future[int]]] = deque()
    with BlockingPool("worker", threads=CAPACITY, waiting=SEATS) as pool:
        for now, number in enumerate(pattern):
            for _ in range(number):
                seen.offered += 1
                try:
                    held.append((now, pool.submit(ticks.work)))
                except Overloaded:
                    seen.refused += 1
            served = [held.popleft() for _ in range(min(CAPACITY, len(held)))]
            ticks.advance(len(served))
            wait([future for _, future in served], _WITHIN_S)
            for came, future in served:
                seen.done += 1
                seen.longest = max(seen.longest, future.result(0) - came)
            seen.backlog.append(len(held))
            if over(seen):
                break
    return seen


class Worker:
    """Takes at most so many messages a tick, and remembers what it has done."""

    def __init__(self, broker: Broker, topic: Topic, seen: Seen) -> None:
        self._broker = broker
        self._topic = topic
        self._seen = seen
        self._done: set[str] = set()

    async def tick(self, now: int, wanted: int, reader: Subscription) -> None:
        """Carry out `wanted` requests that were not done before."""
        async with asyncio.timeout(_WITHIN_S):
            while wanted:
                for delivery in await reader.receive(wanted, wait_s=0.5):
                    if delivery.key in self._done:
                        self._seen.repeated += 1
                    else:
                        self._done.add(delivery.key)
                        self._seen.done += 1
                        self._seen.longest = max(self._seen.longest, now - int(delivery.value))
                        wanted -= 1
                    await reader.ack(delivery)


async def queued(server: RabbitMQ, pattern: Iterable[int], name: str, kill: Kill) -> Seen:
    """Requests are messages: published at once, carried out when their turn comes."""
    seen, topic = Seen(), Topic(f"spike-{name}", keyed=False)
    numbers = itertools.count()
    async with open_rabbitmq(RabbitBrokerSettings(server.url)) as broker:
        await broker.declare(topic, [_GROUP])
        worker = Worker(broker, topic, seen)
        ticks = enumerate(pattern)
        while not over(seen):
            async with broker.subscribe(topic, _GROUP, member="w", in_hand=CAPACITY) as reader:
                for now, number in ticks:
                    batch = [Message(f"{next(numbers)}", f"{now}".encode()) for _ in range(number)]
                    await broker.publish(topic, batch)
                    seen.offered += number
                    waiting = seen.offered - seen.done
                    await worker.tick(now, min(CAPACITY, waiting), reader)
                    seen.backlog.append(seen.offered - seen.done)
                    if over(seen) or await kill.due(now, topic):
                        break
                else:
                    return seen
    return seen


class Kill:
    """Kills the broker (SIGKILL) after one tick and starts it again. at: None for never."""

    def __init__(self, lab: Lab, server: RabbitMQ, at: int | None = None) -> None:
        self._lab = lab
        self._server = server
        self._at = at

    async def due(self, now: int, topic: Topic) -> bool:
        """Whether it has just happened: who was connected must connect anew."""
        if now != self._at:
            return False
        await asyncio.to_thread(self._kill_and_start, queue_name(topic, _GROUP, 0))
        return True

    def _kill_and_start(self, queue: str) -> None:
        deadline_s = time.monotonic() + _WITHIN_S
        while not self._server.remembers(queue) and time.monotonic() < deadline_s:
            time.sleep(0.1)
        self._lab.runtime.kill(self._server.name)
        self._lab.runtime.restart(self._server.name)


def run(lab: Lab) -> Result:
    """Every spike directly and through the queue; the greatest once more over a kill."""
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # it tells of the kill at length
    server = RabbitMQ("spike-rabbitmq")
    lab.runtime.start(server)
    never = Kill(lab, server)
    direct: dict[int, Seen] = {}
    queue: dict[int, Seen] = {}
    for times in TIMES_QUICK if lab.quick else TIMES_FULL:
        direct[times] = directly(arrivals(times))
        queue[times] = asyncio.run(queued(server, arrivals(times), f"{times}", never))
        lab.note(f"{times} times the capacity: {direct[times].refused} refused directly")
    most = max(queue)
    kill = Kill(lab, server, at=4 + SPIKE_TICKS)
    killed = asyncio.run(queued(server, arrivals(most), "killed", kill))
    lab.note(f"killed at its peak: {killed.lost} lost, {killed.repeated} repeated")
    endless = asyncio.run(queued(server, itertools.repeat(LASTING, LASTING_TICKS), "long", never))
    return _judged(direct, queue, killed, endless)


def _judged(direct: dict[int, Seen], queue: dict[int, Seen], killed: Seen, endless: Seen) -> Result:
    most = max(queue)
    bounded = {times: arithmetic(arrivals(times), SEATS) for times in direct}
    free = {times: arithmetic(arrivals(times), None) for times in queue}
    lasting = [(LASTING - CAPACITY) * tick for tick in range(1, LASTING_TICKS + 1)]
    return Result(
        arms=(
            _arm("called directly", "control", direct[most]),
            _arm("behind a queue", "treatment", queue[most]),
            _arm("behind a queue, broker killed at the peak", "treatment", killed),
            _arm("theory: load less capacity", "theory", free[most]),
            _arm("overload without an end, queue", "limit", endless),
        ),
        shape=(
            Claim(
                "called directly, all that the room has no seat for is refused, by arithmetic",
                all(_same(direct[times], bounded[times]) for times in direct)
                and direct[most].refused > 0,
                f"refused by times the capacity: {_of(direct, 'refused')}",
            ),
            Claim(
                "behind a queue none is refused and none lost, and the backlog drains to 0",
                all((one.refused, one.lost, one.backlog[-1]) == (0, 0, 0) for one in queue.values())
                and all(_same(queue[times], free[times]) for times in queue),
                f"lost: {_of(queue, 'lost')}; drained after ticks:"
                f" {[(times, len(one.backlog)) for times, one in queue.items()]}",
            ),
            Claim(
                "nothing that the broker had confirmed is lost when it is killed at the peak",
                (killed.refused, killed.lost) == (0, 0) and killed.backlog == queue[most].backlog,
                f"{killed.lost} lost, {killed.repeated} delivered again, of {killed.offered}",
            ),
            Claim(
                "the price is waiting: as long as the backlog, where the room kept it short",
                queue[most].longest > direct[most].longest
                and direct[most].longest <= SEATS // CAPACITY,
                f"longest, in ticks: {_of(direct, 'longest')} and {_of(queue, 'longest')}",
            ),
            Claim(
                "a queue adds no capacity: under a load over it the backlog only grows",
                endless.backlog == lasting,
                f"{endless.backlog[-1]} waiting after {LASTING_TICKS} ticks",
            ),
        ),
        plot=Plot(Axis("time (ticks)"), Axis("requests that wait, after each tick")),
        notes=(
            f"Capacity {CAPACITY} a tick, usually {USUAL} arrive; {SEATS} seats. Drawn: the spike"
            f" of {most} times the capacity for {SPIKE_TICKS} ticks.",
            "A refused caller knows it at once and may come again, which makes the spike longer;"
            " here nobody does.",
            "While the killed broker starts, the clock of ticks stands still.",
        ),
    )


def _same(one: Seen, other: Seen) -> bool:
    return (one.backlog, one.refused, one.done, one.longest) == (
        other.backlog,
        other.refused,
        other.done,
        other.longest,
    )


def _of(seen: dict[int, Seen], name: str) -> Sequence[tuple[int, int]]:
    return [(times, getattr(one, name)) for times, one in seen.items()]


def _arm(name: str, role: Role, seen: Seen) -> Arm:
    return Arm(
        name,
        role,
        {
            "offered": seen.offered,
            "refused": seen.refused,
            "done": seen.done,
            "most_waiting": max(seen.backlog),
            "longest_wait_ticks": seen.longest,
            "ticks": len(seen.backlog),
        },
        tuple((float(tick), float(held)) for tick, held in enumerate(seen.backlog)),
    )


EXPERIMENT = Experiment(
    slug="queue-spike",
    question="What does a queue before a slow worker change when a spike is over its capacity?",
    varied="calls with a bounded waiting room or messages in a queue; the height of the spike",
    fixed="the worker's capacity, what arrives in each tick",
    run=run,
    topics=("A4", "C16"),
    needs=("rabbitmq",),
)
