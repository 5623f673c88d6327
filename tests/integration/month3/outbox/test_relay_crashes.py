"""Producers and relays die by SIGKILL at every named point: duplicates, nothing else."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
import pytest

from month3_messaging.crash_points import (
    CONSUMER_POINTS,
    DESK_POINTS,
    LOG_POINTS,
    POLLING_POINTS,
    PRODUCER_POINTS,
    PROJECTOR_POINTS,
    CrashPoint,
)
from month3_messaging.experiments.mortal_process import (
    TABLES,
    Bed,
    place_with_outbox,
    relay_by_log,
    relay_by_polling,
)
from month3_messaging.experiments.mortals import KILLED, Mortals
from month3_messaging.outbox import append, look_at_slot
from scalelab.clients.kafka import Record
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.lab.servers import Postgres
from scalelab.telemetry import Telemetry
from tests.integration.month3.messaging_bed import make_event, poll_until, read_topic
from tests.integration.month3.relay_bed import (
    Kind,
    Relays,
    everything_sent,
    first_copies,
    slot_place,
)

KEYS = [f"key-{n}" for n in range(4)]
EACH = 3


@dataclass
class Appended:
    """Appends events of every key, and knows what the topic must show in the end."""

    database: Database
    topic: str
    numbers: Counter[str] = field(default_factory=Counter[str])

    async def more(self) -> None:
        """EACH more of every key: in one transaction, so that a relay finds them together."""
        async with self.database.transaction() as conn:
            for _ in range(EACH):
                for key in KEYS:
                    await append(conn, make_event(key, self.numbers[key]), self.topic)
                    self.numbers[key] += 1

    async def on_topic(self, bootstrap: str) -> list[Record]:
        total = self.numbers.total()
        return await read_topic(
            bootstrap, self.topic, lambda seen: len({r.headers["ce_id"] for r in seen}) >= total
        )

    @property
    def expected(self) -> dict[str, list[int]]:
        return {key: list(range(count)) for key, count in self.numbers.items()}


@pytest.fixture
def mortals(log_relays: Relays, topic: str) -> Iterator[Mortals]:
    place = log_relays.place
    bed = Bed(place.dsn, log_relays.bootstrap, topic, "group", place.name)
    with Mortals(bed) as running:
        yield running


def test_every_point_belongs_to_one_kind_of_process() -> None:
    """The list is whole: no point is left out of the lists that tests go through."""
    relays = {*POLLING_POINTS, *LOG_POINTS}
    hit = {*PRODUCER_POINTS, *relays, *CONSUMER_POINTS, *DESK_POINTS, *PROJECTOR_POINTS}
    assert hit == set(CrashPoint)


@pytest.mark.timeout(240)
async def test_polling_relays_killed_at_every_point_lose_nothing_and_keep_the_order(
    log_relays: Relays, mortals: Mortals, database: Database, topic: str
) -> None:
    """One after the other dies, a last one finishes: every event is on the topic, the first copies
    of each key in order; after a death between send and mark there are duplicates."""
    appended = Appended(database, topic)
    ends: dict[str, int] = {}
    for point in POLLING_POINTS:
        await appended.more()
        ends[point] = await asyncio.to_thread(mortals.run, relay_by_polling, point)
    assert ends == dict.fromkeys(POLLING_POINTS, KILLED), "the fault bit"
    log_relays.kind = Kind.POLLING
    async with log_relays.running():
        await poll_until(lambda: everything_sent(database), "the survivor has sent everything")
    records = await appended.on_topic(log_relays.bootstrap)
    assert first_copies(records) == appended.expected
    assert len(records) > appended.numbers.total(), "a crash between send and mark repeats rows"


@pytest.mark.timeout(240)
async def test_log_relays_killed_while_they_read_the_table_lose_nothing_and_keep_the_order(
    log_relays: Relays, mortals: Mortals, database: Database, topic: str
) -> None:
    """A backlog is there when each begins: it dies making its slot, or on the way off the table."""
    points = [point for point in LOG_POINTS if point is not CrashPoint.OUTBOX_CONFIRMED]
    appended = Appended(database, topic)
    ends: dict[str, int] = {}
    for point in points:
        await appended.more()
        ends[point] = await asyncio.to_thread(mortals.run, relay_by_log, point)
    assert ends == dict.fromkeys(points, KILLED), "the fault bit"
    await finish(log_relays, database)
    records = await appended.on_topic(log_relays.bootstrap)
    assert first_copies(records) == appended.expected


@pytest.mark.timeout(240)
async def test_log_relays_killed_while_they_follow_the_log_lose_nothing_and_keep_the_order(
    log_relays: Relays, mortals: Mortals, database: Database, topic: str
) -> None:
    """The table is clear and the slot is read when the rows come: they are on their way off the
    log when each dies, up to the confirmation."""
    points = (*POLLING_POINTS, CrashPoint.OUTBOX_CONFIRMED)
    appended = Appended(database, topic)
    ends: dict[str, int] = {}
    for point in points:
        await finish(log_relays, database)
        await asyncio.to_thread(mortals.start, relay_by_log, point)
        await poll_until(lambda: slot_is_read(log_relays), "the victim follows the log")
        await appended.more()
        ends[point] = await asyncio.to_thread(mortals.end)
    assert ends == dict.fromkeys(points, KILLED), "the fault bit"
    await finish(log_relays, database)
    records = await appended.on_topic(log_relays.bootstrap)
    assert first_copies(records) == appended.expected


async def finish(relays: Relays, database: Database) -> None:
    """A relay of this process sends the rest and lets go of the slot."""
    async with relays.running():
        await poll_until(lambda: everything_sent(database), "the survivor has sent everything")
        await poll_until(relays.are_following, "the slot is there")

    async def is_free() -> bool:
        return not await slot_is_read(relays)

    await poll_until(is_free, "nobody reads the slot")


async def slot_is_read(relays: Relays) -> bool:
    async with relays.database.autocommit() as conn:
        state = await look_at_slot(conn, relays.place)
    return state is not None and state.is_active


async def test_producers_killed_around_the_commit_agree_with_the_topic(
    database_dsn: str,
    telemetry: Telemetry,
    kafka_bootstrap: str,
    topic: str,
    postgres_server: Postgres,
) -> None:
    """Before the commit neither order nor event is there, after it both are, whoever relays."""
    with psycopg.connect(database_dsn) as conn:
        conn.execute(TABLES.encode())
    with Mortals(Bed(database_dsn, kafka_bootstrap, topic, "group")) as mortals:
        ends = [
            await asyncio.to_thread(mortals.run, place_with_outbox, point, 3)
            for point in PRODUCER_POINTS
        ]
    assert ends == [KILLED] * len(PRODUCER_POINTS), "the fault bit"
    place = slot_place(postgres_server, database_dsn)
    async with Database(PostgresSettings(database_dsn), name="test") as database:
        relays = Relays(Kind.LOG, database, kafka_bootstrap, place, telemetry)
        await finish(relays, database)
        async with database.autocommit() as conn:
            cursor = await conn.execute("SELECT id::text FROM placed")
            placed = {order for (order,) in await cursor.fetchall()}
    assert len(placed) == 2 + 3, "the third order of the first was rolled back"
    records = await read_topic(kafka_bootstrap, topic, lambda seen: len(seen) >= len(placed))
    assert {record.headers["ce_id"] for record in records} == placed
