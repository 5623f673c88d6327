"""The outbox relay beside a naive loop and beside Kafka's client alone: rows a second and lag.

The same rows (an order's event of about 300 bytes, each with a key of its own) of the same
PostgreSQL go to the same topic of the same Kafka. The naive relay reads as many rows at once as
ours, but waits for each send and marks each row by itself. The raw producer is handed the finished
records and reads and marks nothing: no relay can be faster. Rates are by the wall clock, arms in
turns; every turn counts what came to the topic. Lag is from the commit's answer to a consumer that
has the record, at 20 events a second.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median, quantiles
from typing import Any
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from bench._turns import Arm, control_of, in_turns, ratio_of, shown
from month3_messaging import outbox
from month3_messaging.broker import Event, to_headers, to_value
from month3_messaging.outbox import Relay, RelayMetrics
from scalelab.clients.kafka import (
    Consumer,
    Message,
    Producer,
    ensure_topics,
    open_consumer,
    open_producer,
)
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.lab.course.bench import AnyFigure, Figure, LimitFigure, Options
from scalelab.lab.servers import Kafka, Postgres
from scalelab.telemetry import TelemetrySettings, build_telemetry

MONTH = "month3"
_NAME = "outbox"
_TOPIC, _LAG_TOPIC, _PARTITIONS = "bench.order", "bench.lag", 6
_ROWS, _NAIVE_ROWS = 3_000, 150
_LAGS, _EVERY_S, _LAG_MS = 100, 0.05, 50.0
_FILL = """
INSERT INTO outbox (event_id, topic, key, type, headers, value)
SELECT gen_random_uuid(), %(topic)s, key::text, type, headers || jsonb_build_object(
           'ce_id', key::text, 'ce_subject', key::text, 'ce_partitionkey', key::text), value
FROM (SELECT gen_random_uuid() AS key, %(type)s::text AS type, %(headers)s::jsonb AS headers,
             %(value)s::text::jsonb AS value FROM generate_series(1, %(rows)s)) AS made
"""
_NAIVE_READ = """
SELECT id, topic, key, headers, value::text FROM outbox
WHERE sent_at IS NULL ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED
"""
_NAIVE_MARK = "UPDATE outbox SET sent_at = clock_timestamp() WHERE id = %s"


def run(options: Options) -> list[AnyFigure]:
    """All figures; takes about a minute."""
    kafka, postgres = Kafka("bench-kafka"), Postgres("bench-outbox")
    options.runtime.start(kafka, postgres)
    dsn = postgres.ensure_database("bench", "bench")
    return asyncio.run(_figures(options, kafka.bootstrap, dsn))


async def _figures(options: Options, bootstrap: str, dsn: str) -> list[AnyFigure]:
    await ensure_topics(bootstrap, {_TOPIC: _PARTITIONS, _LAG_TOPIC: _PARTITIONS})
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        database = await enter(Database(PostgresSettings(dsn), name="bench"))
        conn = await enter(database.dedicated())
        await conn.execute(outbox.DDL.encode())
        producer = await enter(open_producer(bootstrap, "ours"))
        at_once = await enter(open_producer(bootstrap, "naive", linger_ms=0))
        telemetry = build_telemetry(TelemetrySettings("bench"), stream=io.StringIO())
        metrics = RelayMetrics(telemetry.registry)
        relay = Relay(database, producer, metrics=metrics, log=telemetry.log)
        counted = await enter(_open_counted(bootstrap))
        arms: dict[str, Arm] = {
            "relay": counted.turn(lambda: _relayed(relay, conn), _ROWS),
            "relay again": counted.turn(lambda: _relayed(relay, conn), _ROWS),
            "naive": counted.turn(lambda: _naively(database, conn, at_once), _NAIVE_ROWS),
            "raw": counted.turn(lambda: _raw(producer), _ROWS),
        }
        costs = await in_turns(options, arms)
        await conn.execute("TRUNCATE outbox")
        options.note(f"lag of {_LAGS} events, one each {_EVERY_S * 1000:.0f} ms")
        settled = Relay(database, producer, metrics=metrics, log=telemetry.log)
        lags_ms = await _lags_ms(database, settled, bootstrap)
    return [*_rates(options, costs), *_lag_figures(lags_ms)]


@asynccontextmanager
async def _open_counted(bootstrap: str) -> AsyncIterator[_Counted]:
    """A reader of the topic that fetches nothing: it is asked where the topic ends."""
    async with open_consumer(bootstrap, "counter", [_TOPIC]) as consumer:
        while not consumer.assignment():
            await consumer.getmany(timeout_ms=100)
        consumer.pause(consumer.assignment())
        yield _Counted(consumer)


@dataclass(frozen=True, slots=True)
class _Counted:
    """Holds every turn to the number of records that came to the topic, in wall µs a row."""

    consumer: Consumer

    def turn(self, carry: Callable[[], Awaitable[float]], rows: int) -> Arm:
        async def counted() -> float:
            before = await self._records()
            seconds = await carry()
            came = await self._records() - before
            if came != rows:
                raise RuntimeError(f"{came} records instead of {rows} are no measurement")
            return seconds * 1e6 / rows

        return counted

    async def _records(self) -> int:
        return sum((await self.consumer.end_offsets(self.consumer.assignment())).values())


def _event(order: UUID) -> Event:
    lines = [{"product_id": f"p-{number:04}", "quantity": number} for number in range(1, 4)]
    data = {"order_id": str(order), "total_minor": 12_345, "currency": "EUR", "lines": lines}
    return Event(order, "bench.order.placed.v1", "/bench", str(order), datetime.now(UTC), data)


async def _fill(conn: AsyncConnection[Any], rows: int) -> None:
    event = _event(uuid4())
    await conn.execute("TRUNCATE outbox")
    await conn.execute(
        _FILL,
        {
            "topic": _TOPIC,
            "type": event.type,
            "headers": Jsonb(to_headers(event)),
            "value": to_value(event).decode(),
            "rows": rows,
        },
    )
    await conn.execute("ANALYZE outbox")


async def _relayed(relay: Relay, conn: AsyncConnection[Any]) -> float:
    await _fill(conn, _ROWS)
    begun_s = time.perf_counter()
    while (await relay.carry_once(conn)).read:
        pass
    return time.perf_counter() - begun_s


async def _naively(database: Database, conn: AsyncConnection[Any], producer: Producer) -> float:
    await _fill(conn, _NAIVE_ROWS)
    begun_s = time.perf_counter()
    async with database.transaction() as own:
        rows = await (await own.execute(_NAIVE_READ)).fetchall()
        for row_id, topic, key, headers, value in rows:
            await producer.send(topic, key, value.encode(), headers)
            await own.execute(_NAIVE_MARK, (row_id,))
    return time.perf_counter() - begun_s


async def _raw(producer: Producer) -> float:
    events = [_event(uuid4()) for _ in range(_ROWS)]
    made = [Message(_TOPIC, one.subject, to_value(one), to_headers(one)) for one in events]
    begun_s = time.perf_counter()
    await producer.send_all(made)
    return time.perf_counter() - begun_s


async def _lags_ms(database: Database, relay: Relay, bootstrap: str) -> list[float]:
    committed: dict[str, float] = {}
    lags: list[float] = []

    async def read() -> None:
        async with open_consumer(bootstrap, "bench-lag", [_LAG_TOPIC]) as consumer:
            while len(lags) < _LAGS:
                came = await consumer.getmany(timeout_ms=200)
                now_s = time.perf_counter()
                lags.extend((now_s - committed[str(record.key)]) * 1000 for record in came)

    running = asyncio.create_task(relay.run())
    reading = asyncio.create_task(read())
    try:
        await asyncio.sleep(3.0)  # both have joined what they have to join
        for _ in range(_LAGS):
            event = _event(uuid4())
            # For a record that comes before the commit's answer is handled here.
            committed[event.subject] = time.perf_counter()
            async with database.transaction() as conn:
                await outbox.append(conn, event, _LAG_TOPIC)
            committed[event.subject] = time.perf_counter()
            await asyncio.sleep(_EVERY_S)
        await asyncio.wait_for(reading, 60)
    finally:
        for task in (running, reading):
            task.cancel()
        await asyncio.gather(running, reading, return_exceptions=True)
    return lags


def _rates(options: Options, costs: Mapping[str, list[float]]) -> list[AnyFigure]:
    control = control_of(options, costs, "relay again", "relay")
    naive = ratio_of(options, costs, "naive", "relay")
    raw = ratio_of(options, costs, "raw", "relay")
    rates = {name: 1e6 / median(cost) for name, cost in costs.items()}
    unit = "rows a second, ours / peer"
    return [
        shown(_NAME, "control: the relay, A / A", "ratio", control.ratio),
        *(shown(_NAME, name, "rows/s", rates[name]) for name in ("relay", "naive", "raw")),
        Figure(_NAME, "relay", "send and wait", unit, naive, "at_least", 10.0),
        Figure(_NAME, "relay", "raw producer", unit, raw, "at_least", 0.5),
    ]


def _lag_figures(lags_ms: list[float]) -> list[AnyFigure]:
    p50 = round(median(lags_ms), 1)
    return [
        LimitFigure(_NAME, "commit to topic, p50 at 20/s", "ms", p50, "at_most", _LAG_MS),
        shown(_NAME, "the same, p90", "ms", quantiles(lags_ms, n=10)[-1]),
    ]
