"""From the orders' events to one job at the broker, whatever comes twice or is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from celery import Celery

from month3_messaging.broker import Event
from month3_messaging.jobs.broker import BrokerSettings, make_app, sender
from month3_messaging.jobs.intake import CANCELLED, CONFIRMED, PLACED, Intake
from month3_messaging.jobs.service import migrate
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.errors import CorruptData, Unavailable
from tests.integration.month3.jobs.conftest import order_content


@pytest.fixture(scope="module")
def jobs_dsn(module_database_dsn: str) -> str:
    migrate(module_database_dsn)
    return module_database_dsn


@pytest.fixture
async def jobs_database(jobs_dsn: str) -> AsyncIterator[Database]:
    with psycopg.connect(jobs_dsn) as conn:
        conn.execute("TRUNCATE job CASCADE")
    async with Database(PostgresSettings(jobs_dsn), name="jobs") as database:
        yield database


class Intakes:
    """Intakes on one database, each with a sender of its own to the broker at `url`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.apps: list[Celery] = []

    def at(self, url: str, *, resend_after_s: float = 3600.0) -> Intake:
        app = make_app(BrokerSettings(url=url))
        self.apps.append(app)
        return Intake(self._database, sender(app), resend_after_s=resend_after_s)


@pytest.fixture
def intakes(jobs_database: Database) -> Iterator[Intakes]:
    made = Intakes(jobs_database)
    yield made
    for app in made.apps:
        app.pool.force_close_all()  # pyright: ignore[reportAttributeAccessIssue]
        app.close()


def event(order: UUID, kind: str) -> Event:
    """What the orders publish."""
    return Event(uuid4(), kind, "/orders", str(order), datetime.now(UTC), order_content(order))


def at_broker(url: str) -> int:
    """Messages that wait in the broker's queue."""
    with redis.Redis.from_url(url) as client:
        return int(client.llen("invoices"))  # pyright: ignore[reportArgumentType] - its stub


async def test_a_confirmed_order_has_one_job_however_often_its_events_come(
    intakes: Intakes, redis_url: str
) -> None:
    """J1: copies of an event are known by their id, others by the row."""
    intake = intakes.at(redis_url)
    order = uuid4()
    placed, confirmed = event(order, PLACED), event(order, CONFIRMED)
    for _ in range(2):
        await intake.on_placed(placed)
    assert await intake.send_ready() == 0
    for _ in range(2):
        await intake.on_confirmed(confirmed)
    assert [await intake.send_ready(), await intake.send_ready()] == [1, 0]
    assert at_broker(redis_url) == 1


async def test_a_cancelled_order_has_none(intakes: Intakes, redis_url: str) -> None:
    """And nothing is kept of it."""
    intake = intakes.at(redis_url)
    order = uuid4()
    await intake.on_placed(event(order, PLACED))
    await intake.on_ended(event(order, CANCELLED))
    assert await intake.send_ready() == 0
    with pytest.raises(CorruptData) as told:
        await intake.on_confirmed(event(order, CONFIRMED))
    assert told.value.stable_code == "unknown_order"


async def test_what_could_not_be_sent_is_sent_later(intakes: Intakes, redis_url: str) -> None:
    """J2: with the broker away nothing is marked; afterwards everything is there."""
    away = intakes.at("redis://127.0.0.1:1/0")
    orders = [uuid4() for _ in range(3)]
    for order in orders:
        await away.on_placed(event(order, PLACED))
        await away.on_confirmed(event(order, CONFIRMED))
    with pytest.raises(Unavailable):
        await away.send_ready()
    assert await intakes.at(redis_url).send_ready() == 3
    assert at_broker(redis_url) == 3


async def test_what_the_broker_forgot_is_sent_again(intakes: Intakes, redis_url: str) -> None:
    """J2: a ready job that nobody carried out is handed over once more."""
    intake = intakes.at(redis_url, resend_after_s=0.0)
    order = uuid4()
    await intake.on_placed(event(order, PLACED))
    await intake.on_confirmed(event(order, CONFIRMED))
    assert await intake.send_ready() == 1
    with redis.Redis.from_url(redis_url) as client:
        await asyncio.to_thread(client.flushdb)
    assert await intake.send_ready() == 1
    assert at_broker(redis_url) == 1
