"""Event consumer: calls a handler per event, in order per partition, and survives its failures.

Theory of operation
    One group member reads the main topics and the group's own retry topics. Each partition is a
    lane (lane.py) with its own task; lanes run side by side, at most `concurrency` handlers at a
    time. With a batch handler a lane hands over all it holds at once (batches.py): the longer the
    backlog, the fewer transactions. Retry topics, and every topic with OnFailure.HOLD_KEY, have
    lanes with a queue for each key (keyed_lane.py) instead, in which keys do not wait for each
    other, and events go alone. The poll loop fetches,
    fills lanes, pauses partitions whose lane is full and resumes them later, and commits what is
    settled. It never waits for a handler, so heartbeats and the poll interval are kept however
    long a handler, an outage or a retry's due time takes.

Guarantees
    C1  An offset is committed only after every record before it in its partition was handled,
        skipped or stored on its next topic. A crash repeats records and loses none.
    C2  Records of a partition are handled in order, one at a time or one batch at a time, except
        those that went to a retry topic; with HOLD_KEY those of a key are, and only a dead letter
        leaves the order.
    C3  A record that cannot be carried out never blocks its partition, unless a dependency is
        down, in which case it waits in place (see failure_policy.py). With HOLD_KEY it blocks its
        key until its last try; keys that wait are bounded by `keys_in_hand` a partition, records
        by `lane_full` and `ahead_full`, and at these bounds the partition stands.
    C4  When partitions move away, the current records get `revoke_grace_s` to end, then they are
        cancelled. A frozen member that wakes up without its partitions may still run a handler:
        the inbox, not the group protocol, keeps the effect single.

Failure of Kafka itself: the consumer waits and starts over; nothing is lost.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from month3_messaging.crash_points import CrashPoint, pass_by
from month3_messaging.workers.batches import BatchHandler, settle_together
from month3_messaging.workers.failure_policy import OnFailure, topics_of
from month3_messaging.workers.handling import Conditions, Handler, settle
from month3_messaging.workers.keyed_lane import KeyedLane
from month3_messaging.workers.ladder import DEFAULT_LADDER, RetryStep
from month3_messaging.workers.lane import Lane, Settle
from month3_messaging.workers.metrics import ConsumerMetrics
from scalelab.clients.kafka import (
    Consumer,
    Partition,
    Producer,
    Record,
    ensure_topics,
    open_consumer,
    open_producer,
)
from scalelab.clock import Clock, SystemClock
from scalelab.errors import Conflict, InvalidInput, ScalelabError, Unavailable
from scalelab.telemetry import Telemetry

_ROOMY = 0.5
"""Fill of a lane at which fetching goes on."""


@dataclass(frozen=True, slots=True)
class ConsumerSettings:
    """How a consumer paces itself.

    concurrency: handlers at once. ladder: waits before the next tries, by delay topics or in place
    as on_failure says. lane_full: records per partition at which fetching pauses; it resumes at
    half. batch_max: records handed over together, of a lane that holds so many. keys_in_hand,
    ahead_full: see C3 and keyed_lane.py. max_records: of one poll. poll_ms: longest wait for some.
    commit_every_s: between commits, so the most that a crash repeats. restart_s: pause before
    starting over without Kafka. partitions and ladder_partitions: of topics that do not exist yet;
    existing ones stay as they are.
    static_member: a name, one per member, under which a restarted member gets its partitions back
    at once; until then nobody works on them.
    """

    concurrency: int = 16
    ladder: Sequence[RetryStep] = DEFAULT_LADDER
    on_failure: OnFailure = OnFailure.MOVE_ASIDE
    keys_in_hand: int = 64
    lane_full: int = 200
    ahead_full: int = 10_000
    poll_ms: int = 100
    max_records: int = 200
    batch_max: int = 500
    commit_every_s: float = 1.0
    attempt_timeout_s: float = 30.0
    backoff_s: tuple[float, float] = (0.1, 5.0)
    revoke_grace_s: float = 3.0
    session_timeout_s: float = 10.0
    restart_s: float = 1.0
    behind_every_s: float = 5.0
    partitions: int = 6
    ladder_partitions: int = 1
    static_member: str | None = None


class EventConsumer:
    """A member of consumer group `group`; an async context manager around `run`.

    handlers: by event type; events of other types are skipped and counted. in_batches: carries out
    many events of these types at once, as far as they come from the main topics; what fails there
    is carried out again by its own handler (see EffectOnce for both). reached: called with the
    name of each crash point (crash_points.py), for fault tests.
    Raises InvalidInput for batches with HOLD_KEY, or of less than one event.
    """

    def __init__(
        self,
        bootstrap: str,
        group: str,
        topics: Sequence[str],
        handlers: Mapping[str, Handler],
        *,
        telemetry: Telemetry,
        settings: ConsumerSettings | None = None,
        in_batches: BatchHandler | None = None,
        metrics: ConsumerMetrics | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        reached: Callable[[str], None] = pass_by,
    ) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._topics = tuple(topics)
        self._handlers = dict(handlers)
        self._telemetry = telemetry
        self._settings = settings or ConsumerSettings()
        self._in_batches = in_batches
        if in_batches is not None:
            _check_batches(self._settings)
        self._metrics = metrics or ConsumerMetrics(telemetry.registry)
        self._clock = clock or SystemClock()
        self._random = rng or random.Random()
        self._reached = reached
        self._slots = asyncio.Semaphore(self._settings.concurrency)
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # Mutable state of the current membership; replaced when the consumer starts over.
        self._consumer: Consumer | None = None
        self._lanes: dict[Partition, Lane | KeyedLane] = {}
        self._paused: set[Partition] = set()
        self._committed: dict[Partition, int] = {}
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.run(), name=f"consumer {self._group}")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Stop: finish current records within the grace, commit, leave the group."""
        self._stop.set()
        if self._task is not None:
            await self._task

    @property
    def held(self) -> int:
        """Records fetched and not settled: what a slow handler makes wait in memory. Bounded: by
        `lane_full` and one fetch a partition, and `ahead_full` where keys are held."""
        return sum(lane.held for lane in self._lanes.values())

    async def ready(self) -> None:
        """Return while the group member is running; raises Unavailable otherwise."""
        if self._task is not None and self._task.done():
            raise Unavailable(f"consumer {self._group} has stopped", code="consumer_stopped")
        if self._consumer is None:
            raise Unavailable(f"consumer {self._group} has no broker", code="kafka_unavailable")

    async def run(self) -> None:
        """Serve until stopped or cancelled.

        Raises InvariantBroken when a handler found one: a worker that broke a rule stops.
        """
        while not self._stop.is_set():
            try:
                await self._serve_one_membership()
            except ScalelabError as error:
                self._failure = None
                self._telemetry.log.warning(
                    "consumer_starts_over", group=self._group, error=str(error)
                )
                await self._sleep(self._settings.restart_s)

    async def _serve_one_membership(self) -> None:
        await self._make_topics()
        subscription = [
            name
            for topic in self._topics
            for name in (topic, *topics_of(topic, self._group, self._settings.ladder)[:-1])
        ]
        async with (
            open_producer(self._bootstrap, f"{self._group}.retries") as producer,
            open_consumer(
                self._bootstrap,
                self._group,
                subscription,
                on_revoked=self._on_revoked,
                static_member=self._settings.static_member,
                session_timeout_s=self._settings.session_timeout_s,
            ) as consumer,
        ):
            self._consumer = consumer
            try:
                await self._poll(consumer, self._conditions(producer))
            finally:
                await self._let_go(tuple(self._lanes))
                self._consumer = None
                self._committed.clear()
                self._paused.clear()

    async def _make_topics(self) -> None:
        """Create what is missing: a member of a group must not start before its topics."""
        topics = dict.fromkeys(self._topics, self._settings.partitions)
        for topic in self._topics:
            ladder = topics_of(topic, self._group, self._settings.ladder)
            topics.update(dict.fromkeys(ladder, self._settings.ladder_partitions))
        try:
            await ensure_topics(self._bootstrap, topics)
        except Conflict as error:
            # Whoever made the topic chose its partitions; a consumer can live with any number.
            self._telemetry.log.info("topic_differs", group=self._group, error=str(error))

    async def _poll(self, consumer: Consumer, conditions: Conditions) -> None:
        loop = asyncio.get_running_loop()
        next_commit_s = next_behind_s = loop.time()
        while not self._stop.is_set():
            records = await consumer.getmany(
                timeout_ms=self._settings.poll_ms, max_records=self._settings.max_records
            )
            if self._failure is not None:
                raise self._failure
            self._fill_lanes(records, consumer.assignment(), conditions)
            self._pause_and_resume(consumer)
            if loop.time() >= next_commit_s:
                await self._commit(consumer, tuple(self._lanes))
                next_commit_s = loop.time() + self._settings.commit_every_s
            if loop.time() >= next_behind_s:
                await self._measure(consumer)
                next_behind_s = loop.time() + self._settings.behind_every_s

    def _fill_lanes(
        self, records: Sequence[Record], owned: frozenset[Partition], conditions: Conditions
    ) -> None:
        for record in records:
            partition = (record.topic, record.partition)
            if partition not in owned:
                continue
            lane = self._lanes.get(partition)
            if lane is None:
                lane = self._lanes[partition] = self._lane(partition, record.offset, conditions)
            lane.add(record)

    def _lane(
        self, partition: Partition, first_offset: int, conditions: Conditions
    ) -> Lane | KeyedLane:
        async def one(record: Record) -> None:
            await settle(record, conditions)

        settings = self._settings
        if settings.on_failure is OnFailure.HOLD_KEY:
            places = settings.keys_in_hand
        elif partition[0] not in self._topics:
            # On a rung a record waits for a time of its own: it must not wait for others' as well.
            places = 2 * settings.lane_full
        else:
            return Lane(
                partition,
                first_offset,
                settle=self._settle_in_order(conditions),
                on_failure=self._fail,
                full=settings.lane_full,
                most=1 if self._in_batches is None else settings.batch_max,
            )
        return KeyedLane(
            partition,
            first_offset,
            settle=one,
            on_failure=self._fail,
            places=places,
            full=settings.lane_full,
            ahead_full=settings.ahead_full,
        )

    def _settle_in_order(self, conditions: Conditions) -> Settle:
        in_batches = self._in_batches

        async def together(records: Sequence[Record], settled: Callable[[int], None]) -> None:
            if in_batches is not None:
                await settle_together(records, conditions, in_batches, settled)

        async def singly(records: Sequence[Record], settled: Callable[[int], None]) -> None:
            for record in records:
                await settle(record, conditions)
                settled(record.offset)

        return singly if in_batches is None else together

    def _pause_and_resume(self, consumer: Consumer) -> None:
        """Keep every lane below twice its bound without ever leaving the poll loop."""
        owned = consumer.assignment()
        self._paused &= owned
        full = {
            partition
            for partition, lane in self._lanes.items()
            if lane.fill >= 1 and partition in owned
        } - self._paused
        roomy = {
            partition
            for partition in self._paused
            if partition not in self._lanes or self._lanes[partition].fill <= _ROOMY
        }
        if full:
            consumer.pause(full)
        if roomy:
            consumer.resume(roomy)
        self._paused = (self._paused | full) - roomy

    async def _commit(self, consumer: Consumer, partitions: Sequence[Partition]) -> None:
        moved = {
            partition: lane.position
            for partition in partitions
            if (lane := self._lanes.get(partition)) is not None
            and lane.position != self._committed.get(partition)
        }
        if not moved:
            return
        try:
            async with asyncio.timeout(self._settings.session_timeout_s):
                await consumer.commit(moved)
        except (ScalelabError, TimeoutError) as error:
            # Not committed means read again; the inbox makes that harmless.
            self._telemetry.log.info("commit_refused", group=self._group, error=str(error))
            return
        self._committed.update(moved)
        self._reached(CrashPoint.CONSUMER_COMMITTED)

    async def _on_revoked(self, revoked: frozenset[Partition]) -> None:
        await self._let_go(tuple(revoked))

    async def _let_go(self, partitions: Sequence[Partition]) -> None:
        """End the lanes of `partitions` and commit what they settled."""
        lanes = [lane for p in partitions if (lane := self._lanes.get(p)) is not None]
        await asyncio.gather(*(lane.close(grace_s=self._settings.revoke_grace_s) for lane in lanes))
        if self._consumer is not None:
            await self._commit(self._consumer, partitions)
        for partition in partitions:
            self._lanes.pop(partition, None)
            self._committed.pop(partition, None)
            self._paused.discard(partition)

    async def _measure(self, consumer: Consumer) -> None:
        try:
            async with asyncio.timeout(self._settings.session_timeout_s):
                ends = await consumer.end_offsets(self._lanes)
        except (ScalelabError, TimeoutError):
            return
        behind = dict.fromkeys((topic for topic, _ in ends), 0)
        for partition, end in ends.items():
            lane = self._lanes.get(partition)
            if lane is not None:
                behind[partition[0]] += max(0, end - lane.position)
        for topic, count in behind.items():
            self._metrics.behind.labels(self._group, topic).set(count)

    def _fail(self, error: BaseException) -> None:
        self._failure = error

    def _conditions(self, producer: Producer) -> Conditions:
        return Conditions(
            group=self._group,
            handlers=self._handlers,
            ladder=tuple(self._settings.ladder),
            on_failure=self._settings.on_failure,
            slots=self._slots,
            attempt_timeout_s=self._settings.attempt_timeout_s,
            backoff_s=self._settings.backoff_s,
            producer=producer,
            metrics=self._metrics,
            telemetry=self._telemetry,
            clock=self._clock,
            random=self._random,
            reached=self._reached,
        )

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return


def _check_batches(settings: ConsumerSettings) -> None:
    if settings.on_failure is OnFailure.HOLD_KEY:
        raise InvalidInput("a batch cannot hold one key back: choose one", field="on_failure")
    if settings.batch_max < 1:
        raise InvalidInput("a batch has one event or more", field="batch_max")
