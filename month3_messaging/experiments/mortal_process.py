"""Processes of the event path that kill themselves (SIGKILL) at a named point.

    python -m month3_messaging.experiments.mortal_process BED

BED is JSON, see `Bed`. A line `ROLE POINT PASSAGE` on standard input; for each a fresh process,
forked before anything was opened, that takes the role and dies at the so-manieth passage of the
point. How it ended stands on standard output: -9 for the kill, 0 for a role that came to its end.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg import AsyncConnection

from month3_messaging import inbox, outbox, readmodel
from month3_messaging.broker import Event, from_wire, to_headers, to_value
from month3_messaging.crash_points import CrashPoint
from month3_messaging.deadletters import Desk, Source, State, collect, send_decided
from month3_messaging.workers import ConsumerSettings, EventConsumer, RetryStep
from scalelab.clients.kafka import Record, open_consumer, open_producer
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.errors import CorruptData, ScalelabError
from scalelab.telemetry import Telemetry, TelemetrySettings, build_telemetry

KIND = "lab.order.placed.v1"
TABLES = (
    outbox.DDL
    + inbox.DDL
    + """
CREATE TABLE placed (id uuid PRIMARY KEY, key text NOT NULL, number bigint NOT NULL);
CREATE TABLE effect (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                     event_id uuid NOT NULL, key text NOT NULL, number bigint NOT NULL);
"""
)
POISON = -1
"""The number of an event that no consumer here can carry out."""

LADDER = (RetryStep("short", 0.05),)


@dataclass(frozen=True, slots=True)
class Bed:
    """Where the roles play. slot: of relays that follow the log. orders: one producer places so
    many before it ends by itself. keys: it takes turns over so many."""

    dsn: str
    bootstrap: str
    topic: str
    group: str
    slot: str = ""
    orders: int = 20
    keys: int = 4


class Countdown:
    """Dies by SIGKILL at the given passage of a point."""

    def __init__(self, point: str, passage: int) -> None:
        self._point = point
        self._left = passage

    def __call__(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


Reached = Callable[[str], None]


def placed_event(order: UUID, key: str, number: int) -> Event:
    """The fact that an order was placed; its id is the order's, so that both can be compared."""
    return Event(order, KIND, "/lab", key, datetime.now(UTC), {"number": number})


async def place_with_outbox(bed: Bed, database: Database, reached: Reached) -> None:
    """Order and outbox row in one transaction."""
    for turn in range(bed.orders):
        order, key = uuid4(), f"key-{turn % bed.keys}"
        async with database.transaction() as conn:
            # The number is drawn under the key's lock, so that it follows the order of commits.
            await conn.execute("SELECT pg_advisory_xact_lock(2828, hashtext(%s))", (key,))
            number = await _insert_order(conn, order, key)
            await outbox.append(conn, placed_event(order, key, number), bed.topic)
            reached(CrashPoint.PRODUCER_BEFORE_COMMIT)
        reached(CrashPoint.PRODUCER_AFTER_COMMIT)


async def _insert_order(conn: AsyncConnection[Any], order: UUID, key: str) -> int:
    cursor = await conn.execute(
        "INSERT INTO placed SELECT %s, %s, (SELECT count(*) FROM placed WHERE key = %s)"
        " RETURNING number",
        (order, key, key),
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def commit_then_send(bed: Bed, database: Database, reached: Reached) -> None:
    """A dual write: the order is committed, then the event is sent."""
    async with open_producer(bed.bootstrap, "dual-write") as producer:
        for turn in range(bed.orders):
            order, key = uuid4(), f"key-{turn % bed.keys}"
            async with database.transaction() as conn:
                number = await _insert_order(conn, order, key)
                reached(CrashPoint.PRODUCER_BEFORE_COMMIT)
            reached(CrashPoint.PRODUCER_AFTER_COMMIT)
            event = placed_event(order, key, number)
            await producer.send(bed.topic, key, to_value(event), to_headers(event))
            reached(CrashPoint.OUTBOX_SENT)


async def send_then_commit(bed: Bed, database: Database, reached: Reached) -> None:
    """A dual write: the event is sent inside the transaction, before the commit."""
    async with open_producer(bed.bootstrap, "dual-write") as producer:
        for turn in range(bed.orders):
            order, key = uuid4(), f"key-{turn % bed.keys}"
            async with database.transaction() as conn:
                number = await _insert_order(conn, order, key)
                event = placed_event(order, key, number)
                await producer.send(bed.topic, key, to_value(event), to_headers(event))
                reached(CrashPoint.PRODUCER_BEFORE_COMMIT)
            reached(CrashPoint.PRODUCER_AFTER_COMMIT)


async def relay_by_polling(bed: Bed, database: Database, reached: Reached) -> None:
    """A polling relay, until it dies."""
    await _relay(bed, database, reached, None)


async def relay_by_log(bed: Bed, database: Database, reached: Reached) -> None:
    """A relay that follows the log, until it dies."""
    place = outbox.SlotPlace(bed.dsn, bed.slot, "mortal processes")
    follow = outbox.FollowLog(place, outbox.SlotMetrics(_telemetry().registry))
    await _relay(bed, database, reached, follow)


async def _relay(
    bed: Bed, database: Database, reached: Reached, follow: outbox.FollowLog | None
) -> None:
    telemetry = _telemetry()
    await outbox.keep_relaying(
        database,
        bed.bootstrap,
        client_id="mortal-relay",
        metrics=outbox.RelayMetrics(telemetry.registry),
        log=telemetry.log,
        settings=outbox.RelaySettings(batch=20, poll_s=0.05, standby_s=0.05),
        follow=follow,
        reached=reached,
    )


async def consume_effectively_once(bed: Bed, database: Database, reached: Reached) -> None:
    """The consumer of this month: inbox row and effect in one transaction, then the offset."""

    async def handle(event: Event) -> None:
        number = event.data["number"]
        if number == POISON:
            raise CorruptData("a poison event")
        async with database.transaction() as conn:
            if await inbox.first_time(conn, bed.group, event.id):
                await _insert_effect(conn, event)
            reached(CrashPoint.CONSUMER_BEFORE_COMMIT)

    consumer = EventConsumer(
        bed.bootstrap,
        bed.group,
        [bed.topic],
        {KIND: handle},
        telemetry=_telemetry(),
        settings=ConsumerSettings(
            ladder=LADDER, commit_every_s=0.0, max_records=5, static_member="mortal"
        ),
        reached=reached,
    )
    await consumer.run()


async def consume_at_least_once(bed: Bed, database: Database, reached: Reached) -> None:
    """The effect, then the offset, and no inbox."""
    await _consume(bed, database, reached, effect_first=True)


async def consume_at_most_once(bed: Bed, database: Database, reached: Reached) -> None:
    """The offset, then the effect."""
    await _consume(bed, database, reached, effect_first=False)


async def _consume(bed: Bed, database: Database, reached: Reached, *, effect_first: bool) -> None:
    async with open_consumer(
        bed.bootstrap, bed.group, [bed.topic], static_member="mortal"
    ) as consumer:
        while True:
            for record in await consumer.getmany(timeout_ms=100, max_records=5):
                reached(CrashPoint.CONSUMER_RECEIVED)
                done = {(record.topic, record.partition): record.offset + 1}
                if not effect_first:
                    await consumer.commit(done)
                    reached(CrashPoint.CONSUMER_COMMITTED)
                await _take_effect(record, database, reached)
                reached(CrashPoint.CONSUMER_HANDLED)
                if effect_first:
                    await consumer.commit(done)
                    reached(CrashPoint.CONSUMER_COMMITTED)


async def _take_effect(record: Record, database: Database, reached: Reached) -> None:
    try:
        event = from_wire(record.headers, record.value)
    except ScalelabError:
        return
    async with database.transaction() as conn:
        await _insert_effect(conn, event)
        reached(CrashPoint.CONSUMER_BEFORE_COMMIT)


async def _insert_effect(conn: AsyncConnection[Any], event: Event) -> None:
    await conn.execute(
        "INSERT INTO effect (event_id, key, number) VALUES (%s, %s, %s)",
        (event.id, event.subject, event.data["number"]),
    )


def desk_of(bed: Bed, database: Database, reached: Reached = lambda _point: None) -> Desk:
    """The desk of the bed's group; its tables are made by the migrations of its room."""
    return Desk(database, [Source(bed.group, [bed.topic], LADDER)], reached=reached)


async def desk_collects(bed: Bed, database: Database, reached: Reached) -> None:
    """Letters from their topic into the table, until it dies."""
    desk = desk_of(bed, database)
    log = _telemetry().log
    await collect(desk, bed.bootstrap, log=log, static_member="mortal", reached=reached)


async def desk_decides(bed: Bed, database: Database, reached: Reached) -> None:
    """Decides that every parked letter is replayed."""
    desk = desk_of(bed, database, reached)
    for kept in await desk.list(State.PARKED):
        await desk.replay(kept.id, who="mortal")


async def desk_sends(bed: Bed, database: Database, reached: Reached) -> None:
    """Sends what was decided, until it dies."""
    desk = desk_of(bed, database)
    log = _telemetry().log
    await send_decided(desk, bed.bootstrap, log=log, poll_s=0.05, reached=reached)


async def project_orders(bed: Bed, database: Database, reached: Reached) -> None:
    """The order view's projector, in small batches, until it dies; tables by its room's DDL."""
    work = readmodel.Projecting(
        database,
        bed.bootstrap,
        bed.topic,
        _telemetry().log,
        batch=10,
        look_every_s=0.05,
        static_member="mortal",
        reached=reached,
    )
    await readmodel.keep_projecting(work)


def _telemetry() -> Telemetry:
    return build_telemetry(TelemetrySettings(service="mortal"), stream=io.StringIO())


Role = Callable[[Bed, Database, Reached], Awaitable[None]]
ROLES: Mapping[str, Role] = {
    role.__name__: role
    for role in (
        place_with_outbox,
        commit_then_send,
        send_then_commit,
        relay_by_polling,
        relay_by_log,
        consume_effectively_once,
        consume_at_least_once,
        consume_at_most_once,
        desk_collects,
        desk_decides,
        desk_sends,
        project_orders,
    )
}


async def play(bed: Bed, role: str, reached: Reached) -> None:
    """One role on a database of its own."""
    async with Database(PostgresSettings(bed.dsn), name="mortal") as database:
        await ROLES[role](bed, database, reached)


def main(bed: Bed) -> None:
    """Fork a process for every line on standard input and say how it ended."""
    for line in sys.stdin:
        role, point, passage = line.split()
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(play(bed, role, Countdown(point, int(passage))))
            except BaseException:  # noqa: BLE001 - told, and this process ends
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Bed(**json.loads(sys.argv[1])))
