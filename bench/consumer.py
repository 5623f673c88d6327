"""The event consumer beside FastStream and beside Kafka's client alone: CPU an event.

The same events (an order's, about 300 bytes, each with a key of its own) of the same topic, read
from its start by a new group each turn, with a handler that counts. Ours parses the envelope, keeps
the order of keys, opens a span, bounds each call, and commits what was handled; FastStream decodes
the value, with and without its checks of types, and commits by itself. The bare loop parses the
value, remembers the ids of a batch in one INSERT and commits batch by batch: what a batch costs by
hand. In batches ours does the same in a transaction, beside all that it does for each event. CPU is
of this process, from the first event to the last; servers and joining the group are left out.
"""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from statistics import median
from typing import Any
from uuid import UUID, uuid4

from faststream.kafka import KafkaBroker
from psycopg import AsyncConnection

from bench._turns import Arm, control_of, in_turns, ratio_of, shown
from month3_messaging import inbox
from month3_messaging.broker import Event, to_headers, to_value
from month3_messaging.workers import ConsumerSettings, EffectOnce, EventConsumer
from scalelab.clients.kafka import Message, ensure_topics, open_consumer, open_producer
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.lab.course.bench import AnyFigure, Figure, Options
from scalelab.lab.servers import Kafka, Postgres
from scalelab.telemetry import TelemetrySettings, build_telemetry

MONTH = "month3"
_NAME = "consumer"
_TOPIC, _PARTITIONS, _EVENTS = "bench.order", 6, 6_000
_BATCH = 500
_KIND = "bench.order.placed.v1"
_WITHIN_S = 60.0
_SESSION_S = 30.0
"""Of every group: a machine that stands still must not cost a turn its partitions."""
_REMEMBER = """
INSERT INTO inbox (consumer, event_id) SELECT %s, unnest(%s::uuid[]) ON CONFLICT DO NOTHING
"""


class _Counter:
    """Counts the events of a turn and bills the CPU between its first and its last."""

    def __init__(self) -> None:
        self._seen = 0
        self._begun_s: float | None = None
        self._ended_s = 0.0
        self._is_complete = asyncio.Event()

    def count(self, number: int = 1) -> None:
        """`number` events were handled; 0 says that the first are about to be."""
        if self._begun_s is None:
            self._begun_s = time.process_time()
        self._seen += number
        if self._seen >= _EVENTS:
            self._ended_s = time.process_time()
            self._is_complete.set()

    async def cpu_us(self) -> float:
        """CPU µs an event, once all were handled. A handled copy makes the turn worthless."""
        async with asyncio.timeout(_WITHIN_S):
            await self._is_complete.wait()
        if self._seen != _EVENTS:
            raise RuntimeError(f"{self._seen} events instead of {_EVENTS} are no measurement")
        return (self._ended_s - (self._begun_s or 0.0)) * 1e6 / _EVENTS


def _new_group() -> str:
    """Of a turn: it reads the topic from its start."""
    return f"bench-{uuid4()}"


def run(options: Options) -> list[AnyFigure]:
    """All figures; takes about two minutes."""
    kafka, postgres = Kafka("bench-consumer-kafka"), Postgres("bench-consumer")
    options.runtime.start(kafka, postgres)
    dsn = postgres.ensure_database("bench", "bench")
    return asyncio.run(_figures(options, kafka.bootstrap, dsn))


async def _figures(options: Options, bootstrap: str, dsn: str) -> list[AnyFigure]:
    await ensure_topics(bootstrap, {_TOPIC: _PARTITIONS})
    events = [_event(uuid4()) for _ in range(_EVENTS)]
    async with open_producer(bootstrap, "bench") as producer:
        await producer.send_all(
            Message(_TOPIC, one.subject, to_value(one), to_headers(one)) for one in events
        )
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(PostgresSettings(dsn), name="bench"))
        async with database.autocommit() as conn:
            await conn.execute(inbox.DDL.encode())
        arms: dict[str, Arm] = {
            "ours": lambda: _ours(bootstrap),
            "ours again": lambda: _ours(bootstrap),
            "ours, in batches": lambda: _ours_in_batches(bootstrap, database),
            "FastStream": lambda: _faststream(bootstrap, checks_types=True),
            "FastStream, no type checks": lambda: _faststream(bootstrap, checks_types=False),
            "bare loop": lambda: _bare(bootstrap, database),
        }
        options.note(f"{_EVENTS:,} events a turn")
        costs = await in_turns(options, arms)
    return _rates(options, costs)


def _event(order: UUID) -> Event:
    lines = [{"product_id": f"p-{number:04}", "quantity": number} for number in range(1, 4)]
    data = {"order_id": str(order), "total_minor": 12_345, "currency": "EUR", "lines": lines}
    return Event(order, _KIND, "/bench", str(order), datetime.now(UTC), data)


async def _ours(bootstrap: str) -> float:
    counter = _Counter()

    async def handle(event: Event) -> None:
        assert event.data["total_minor"] == 12_345
        counter.count()

    telemetry = build_telemetry(TelemetrySettings("bench"), stream=io.StringIO())
    settings = ConsumerSettings(ladder=(), session_timeout_s=_SESSION_S)
    async with EventConsumer(
        bootstrap, _new_group(), [_TOPIC], {_KIND: handle}, telemetry=telemetry, settings=settings
    ):
        return await counter.cpu_us()


async def _ours_in_batches(bootstrap: str, database: Database) -> float:
    counter, group = _Counter(), _new_group()

    async def take_effect(_conn: AsyncConnection[Any], events: Sequence[Event]) -> None:
        assert all(event.data["total_minor"] == 12_345 for event in events)

    once = EffectOnce(database, group, take_effect)

    async def together(events: Sequence[Event]) -> None:
        await once.together(events)
        counter.count(len(events))

    telemetry = build_telemetry(TelemetrySettings("bench"), stream=io.StringIO())
    settings = ConsumerSettings(
        ladder=(),
        session_timeout_s=_SESSION_S,
        max_records=_BATCH,
        batch_max=_BATCH,
        lane_full=2 * _BATCH,
        commit_every_s=0.0,
    )
    async with EventConsumer(
        bootstrap,
        group,
        [_TOPIC],
        {_KIND: once.alone},
        in_batches=together,
        telemetry=telemetry,
        settings=settings,
    ):
        return await counter.cpu_us()


async def _faststream(bootstrap: str, *, checks_types: bool) -> float:
    counter = _Counter()
    broker = KafkaBroker(bootstrap, logger=None, apply_types=checks_types)

    async def handle(data: dict[str, Any]) -> None:
        assert data["total_minor"] == 12_345
        counter.count()

    broker.subscriber(
        _TOPIC,
        group_id=_new_group(),
        auto_offset_reset="earliest",
        session_timeout_ms=round(_SESSION_S * 1000),
    )(handle)
    await broker.start()
    try:
        return await counter.cpu_us()
    finally:
        await broker.stop()


async def _bare(bootstrap: str, database: Database) -> float:
    counter, group = _Counter(), _new_group()
    async with (
        open_consumer(bootstrap, group, [_TOPIC], session_timeout_s=_SESSION_S) as consumer,
        database.dedicated() as conn,
    ):

        async def loop() -> None:
            while True:
                records = await consumer.getmany(timeout_ms=100)
                if not records:
                    continue
                counter.count(0)
                for record in records:
                    assert json.loads(record.value or b"")["total_minor"] == 12_345
                ids = [record.headers["ce_id"] for record in records]
                await conn.execute(_REMEMBER, (group, ids), prepare=True)
                await consumer.commit(
                    {(one.topic, one.partition): one.offset + 1 for one in records}
                )
                counter.count(len(records))

        looping = asyncio.create_task(loop())
        try:
            return await counter.cpu_us()
        finally:
            looping.cancel()
            await asyncio.gather(looping, return_exceptions=True)


def _rates(options: Options, costs: Mapping[str, list[float]]) -> list[AnyFigure]:
    control = control_of(options, costs, "ours again", "ours")
    batches = "ours, in batches"
    faststream = ratio_of(options, costs, "FastStream", batches)
    bare = ratio_of(options, costs, "bare loop", batches)
    unit = "CPU µs/event, peer / ours"
    return [
        shown(_NAME, "control: ours, A / A", "ratio", control.ratio),
        *(shown(_NAME, name, "CPU µs/event", median(cost)) for name, cost in costs.items()),
        *(
            shown(_NAME, f"{peer} / ours", "ratio", ratio_of(options, costs, peer, "ours").ratio)
            for peer in ("FastStream", "bare loop")
        ),
        Figure(_NAME, batches, "FastStream", unit, faststream, "at_least", 3.0),
        Figure(_NAME, batches, "bare loop", unit, bare, "at_least", 0.5),
    ]
