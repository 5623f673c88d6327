"""The outbox on a real PostgreSQL and a real Kafka: nothing missing, order per key, no orphans."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from month3_messaging.outbox import (
    Relay,
    RelayMetrics,
    RelaySettings,
    append,
    count_unsent,
    keep_relaying,
    purge_sent,
)
from scalelab.clients.kafka import Record, open_producer
from scalelab.clients.postgres import Database
from scalelab.errors import InvalidInput
from scalelab.telemetry import Telemetry
from tests.integration.month3.messaging_bed import make_event, poll_until, read_topic

FAST = RelaySettings(poll_s=0.05, standby_s=0.05)


class RolledBack(Exception):
    """Raised in a transaction to undo it."""


@asynccontextmanager
async def relaying(
    database: Database, bootstrap: str, telemetry: Telemetry, *, relays: int = 1
) -> AsyncIterator[None]:
    metrics = RelayMetrics(telemetry.registry)
    tasks = [
        asyncio.create_task(
            keep_relaying(
                database,
                bootstrap,
                client_id=f"relay-{number}",
                metrics=metrics,
                log=telemetry.log,
                settings=FAST,
            )
        )
        for number in range(relays)
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def everything_sent(database: Database) -> bool:
    async with database.autocommit() as conn:
        return await count_unsent(conn) == 0


def first_copies(records: Sequence[Record]) -> dict[str, list[int]]:
    """Per key, the numbers of the events in the order in which each was first on the topic."""
    seen: set[str] = set()
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for record in records:
        if record.headers["ce_id"] not in seen:
            seen.add(record.headers["ce_id"])
            assert record.key is not None
            assert record.value is not None
            numbers[record.key].append(json.loads(record.value)["number"])
    return numbers


async def test_writers_and_two_relays_publish_exactly_what_was_committed(
    database: Database, kafka_bootstrap: str, topic: str, telemetry: Telemetry
) -> None:
    """4 writers, some roll back, two relays: the set on the topic is the set committed, and the
    events of each key stand in commit order."""
    committed: defaultdict[str, list[int]] = defaultdict(list)
    locks = {f"key-{n}": asyncio.Lock() for n in range(5)}
    rng = random.Random(7)

    async def write(writer: int) -> None:
        for step in range(40):
            key = rng.choice(sorted(locks))
            number = writer * 1000 + step
            # The lock makes the commit order of a key known to the test.
            async with locks[key]:
                try:
                    async with database.transaction() as conn:
                        await append(conn, make_event(key, number), topic)
                        if rng.random() < 0.2:
                            raise RolledBack
                except RolledBack:
                    continue
                committed[key].append(number)

    async with relaying(database, kafka_bootstrap, telemetry, relays=2):
        await asyncio.gather(*(write(writer) for writer in range(4)))
        await poll_until(lambda: everything_sent(database), "the outbox is empty")
    total = sum(map(len, committed.values()))
    records = await read_topic(
        kafka_bootstrap, topic, lambda seen: sum(map(len, first_copies(seen).values())) >= total
    )
    assert first_copies(records) == committed


async def test_a_slow_transaction_with_an_early_id_is_not_skipped(
    database: Database, kafka_bootstrap: str, topic: str, telemetry: Telemetry
) -> None:
    """T1 draws id 1, T2 draws id 2 and commits, the relay passes, T1 commits: both are sent."""
    async with relaying(database, kafka_bootstrap, telemetry):
        async with database.transaction() as slow:
            await append(slow, make_event("slow", 1), topic)
            async with database.transaction() as quick:
                await append(quick, make_event("quick", 2), topic)
            await read_topic(kafka_bootstrap, topic, lambda seen: len(seen) >= 1)
        records = await read_topic(kafka_bootstrap, topic, lambda seen: len(seen) >= 2)
    assert first_copies(records) == {"slow": [1], "quick": [2]}


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


async def test_a_rolled_back_event_is_never_published(
    database: Database, kafka_bootstrap: str, topic: str, telemetry: Telemetry
) -> None:
    """O1: no orphan event."""
    async with relaying(database, kafka_bootstrap, telemetry):
        try:
            async with database.transaction() as conn:
                await append(conn, make_event("gone", 1), topic)
                raise RolledBack
        except RolledBack:
            pass
        async with database.transaction() as conn:
            await append(conn, make_event("kept", 2), topic)
        records = await read_topic(kafka_bootstrap, topic, lambda seen: len(seen) >= 1)
    assert first_copies(records) == {"kept": [2]}


async def test_the_relay_survives_the_loss_of_its_connection(
    database: Database, kafka_bootstrap: str, topic: str, telemetry: Telemetry
) -> None:
    """Its backend is terminated: another connection becomes active and goes on."""
    async with relaying(database, kafka_bootstrap, telemetry, relays=2):
        for number in range(3):
            async with database.transaction() as conn:
                await append(conn, make_event("key", number), topic)
            await poll_until(lambda: everything_sent(database), "sent")
            async with database.autocommit() as conn:
                await conn.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
                    " AND granted AND pid <> pg_backend_pid() AND database ="
                    " (SELECT oid FROM pg_database WHERE datname = current_database())"
                )
    records = await read_topic(kafka_bootstrap, topic, lambda seen: len(seen) >= 3)
    assert first_copies(records) == {"key": [0, 1, 2]}


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


async def test_clean_up_deletes_sent_rows_only(
    database: Database, kafka_bootstrap: str, topic: str, telemetry: Telemetry
) -> None:
    """Sent and old enough goes; unsent stays however old."""
    async with relaying(database, kafka_bootstrap, telemetry):
        async with database.transaction() as conn:
            await append(conn, make_event("sent"), topic)
        await poll_until(lambda: everything_sent(database), "sent")
    async with database.transaction() as conn:
        await append(conn, make_event("unsent"), topic)
    async with database.autocommit() as conn:
        assert await purge_sent(conn, older_than_s=3600) == 0
        assert await purge_sent(conn, older_than_s=0) == 1
        cursor = await conn.execute("SELECT key FROM outbox")
        assert await cursor.fetchall() == [("unsent",)]
