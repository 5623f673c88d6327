"""What the outbox promises whatever relay carries it, on a real PostgreSQL and a real Kafka."""

from __future__ import annotations

import asyncio

import pytest

from month3_messaging.outbox import Relay, RelayMetrics, RelaySettings, append, count_unsent
from scalelab.clients.kafka import open_producer
from scalelab.clients.postgres import Database
from scalelab.errors import InvalidInput
from scalelab.telemetry import Telemetry
from tests.integration.month3.messaging_bed import make_event, poll_until, read_topic
from tests.integration.month3.relay_bed import everything_sent, first_copies


async def test_ids_of_a_key_ascend_in_commit_order(database: Database, topic: str) -> None:
    """O2: a second transaction gets no id for a key while a first one that has one is open."""
    async with database.transaction() as first:
        await append(first, make_event("one", 1), topic)

        async def second() -> None:
            async with database.transaction() as conn:
                await append(conn, make_event("one", 2), topic)

        waiting = asyncio.create_task(second())

        async def waits_for_the_lock() -> bool:
            async with database.autocommit() as conn:
                cursor = await conn.execute(
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                    " AND database = (SELECT oid FROM pg_database"
                    " WHERE datname = current_database())"
                )
                row = await cursor.fetchone()
                return bool(row and row[0])

        await poll_until(waits_for_the_lock, "the second writer waits")
        assert not waiting.done()
    await waiting
    async with database.autocommit() as conn:
        cursor = await conn.execute("SELECT value->>'number' FROM outbox ORDER BY id")
        assert [number for (number,) in await cursor.fetchall()] == ["1", "2"]


async def test_two_active_relays_make_duplicates_at_most(
    database: Database, kafka_bootstrap: str, topic: str, telemetry: Telemetry
) -> None:
    """R2 without the lock: two relays carry the same backlog at once; first copies in order."""
    keys = [f"key-{n}" for n in range(4)]
    async with database.transaction() as conn:
        for number in range(40):
            for key in keys:
                await append(conn, make_event(key, number), topic)
    metrics = RelayMetrics(telemetry.registry)

    async def carry(number: int) -> None:
        async with (
            open_producer(kafka_bootstrap, f"zombie-{number}") as producer,
            database.dedicated() as conn,
        ):
            relay = Relay(
                database,
                producer,
                metrics=metrics,
                log=telemetry.log,
                settings=RelaySettings(batch=50),
            )
            while not await everything_sent(database):
                await relay.carry_once(conn)

    await asyncio.gather(carry(1), carry(2))
    records = await read_topic(
        kafka_bootstrap, topic, lambda seen: sum(map(len, first_copies(seen).values())) >= 160
    )
    assert first_copies(records) == {key: list(range(40)) for key in keys}


async def test_what_cannot_be_sent_cannot_be_appended(database: Database, topic: str) -> None:
    """NUL, NaN and oversized data are refused before the transaction is harmed."""
    async with database.transaction() as conn:
        for data in ({"text": "a\0b"}, {"number": float("nan")}, {"text": "x" * 600_000}):
            event = make_event("key")
            with pytest.raises(InvalidInput):
                await append(
                    conn,
                    type(event)(event.id, event.type, event.source, "key", event.time, data),
                    topic,
                )
        await append(conn, make_event("key"), topic)
    async with database.autocommit() as conn:
        assert await count_unsent(conn) == 1
