"""Each move's bug on real servers, and that the next move has it no more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg
import pytest

from month3_messaging import inbox, outbox
from month3_messaging.broker import Event, from_wire
from month3_messaging.experiments.sync_to_async import chained, judged, told
from month3_messaging.moves import (
    AFTER_COMMIT,
    DDL,
    PARTS,
    PLACED,
    Plain,
    Safe,
    Tally,
    place,
    tally,
)
from scalelab.clients.kafka import ensure_topics, open_producer
from scalelab.clients.postgres import Database, PostgresSettings
from tests.integration.month3.messaging_bed import read_topic

PAYMENTS = PARTS[0]


class Killed(BaseException):
    """Stands for a death: nothing that the code does afterwards may matter."""


def die(point: str) -> None:
    assert point == AFTER_COMMIT
    raise Killed


@pytest.fixture
def books_dsn(database_dsn: str) -> str:
    with psycopg.connect(database_dsn) as conn:
        conn.execute((DDL + inbox.DDL + outbox.DDL).encode())
    return database_dsn


@pytest.fixture
async def database(books_dsn: str) -> AsyncIterator[Database]:
    async with Database(PostgresSettings(books_dsn), name="moves") as opened:
        yield opened


async def unsent(database: Database) -> list[str]:
    """Orders whose event waits for the relay."""
    async with database.autocommit(read_only=True) as conn:
        cursor = await conn.execute("SELECT key FROM outbox WHERE sent_at IS NULL")
        return [row[0] for row in await cursor.fetchall()]


async def test_plain_events_lose_an_order_whose_service_dies_after_its_commit(
    database: Database, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """The first of two orders is written and never told; the second is."""
    topic = f"{topic_prefix}moves"
    await ensure_topics(kafka_bootstrap, {topic: 1})
    async with open_producer(kafka_bootstrap, "test") as producer:
        with pytest.raises(Killed):
            await place(Plain(database, topic, producer, reached=die))
        told_of = await place(Plain(database, topic, producer))
    records = await read_topic(kafka_bootstrap, topic, lambda found: len(found) >= 1)
    assert [record.key for record in records] == [str(told_of)]
    assert (await tally(database)).placed == 2


async def test_with_an_outbox_its_event_waits_for_the_relay(database: Database) -> None:
    """The same death loses nothing."""
    with pytest.raises(Killed):
        await place(Safe(database, "moves", reached=die))
    order = await place(Safe(database, "moves"))
    waiting = await unsent(database)
    assert len(waiting) == 2
    assert str(order) in waiting


async def test_a_plain_event_that_comes_twice_charges_twice(
    database: Database, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Every broker may deliver an event again."""
    topic = f"{topic_prefix}moves"
    await ensure_topics(kafka_bootstrap, {topic: 1})
    async with open_producer(kafka_bootstrap, "test") as producer:
        plain = Plain(database, topic, producer)
        await place(plain)
        [record] = await read_topic(kafka_bootstrap, topic, lambda found: len(found) >= 1)
        for _ in range(2):
            await plain.handler(PAYMENTS)(from_wire(record.headers, record.value))
    assert (await tally(database)).charged_twice == 1


async def test_with_an_inbox_it_charges_once_and_tells_once(database: Database) -> None:
    """The copy finds the row of the first."""
    safe = Safe(database, "moves")
    order = await place(safe)
    event = _placed(order)
    for _ in range(2):
        await safe.handler(PAYMENTS)(event)
    found = await tally(database)
    assert (found.charged_unconfirmed, found.charged_twice) == (1, 0)
    assert await unsent(database) == [str(order)] * 2  # placed, paid


@pytest.mark.timeout(240)
async def test_an_outage_fails_charged_orders_of_the_chain_and_delays_those_of_the_events(
    books_dsn: str, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Every claim of sync-to-async, with one outage."""
    events = await told(books_dsn, kafka_bootstrap, f"{topic_prefix}moves", 4)
    with psycopg.connect(books_dsn) as conn:
        conn.execute("TRUNCATE placed_order, charge, reservation")
    chain = await chained(books_dsn, 4)
    assert chain.end == Tally(14, 4, 10, 4, 0)
    result = judged({4: chain}, {4: events})
    assert [claim for claim in result.shape if not claim.holds] == []


def _placed(order: UUID) -> Event:
    return Event(uuid4(), PLACED, "/moves", str(order), datetime.now(UTC), {})
