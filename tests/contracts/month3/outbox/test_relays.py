"""What every relay promises, on a real PostgreSQL and a real Kafka: one suite, both kinds."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict

from month3_messaging.outbox import append, purge_sent
from scalelab.clients.postgres import Database
from tests.integration.month3.messaging_bed import make_event, poll_until, read_topic
from tests.integration.month3.relay_bed import Relays, everything_sent, first_copies


class RolledBack(Exception):
    """Raised in a transaction to undo it."""


async def test_writers_and_two_relays_publish_exactly_what_was_committed(
    relays: Relays, database: Database, kafka_bootstrap: str, topic: str
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

    async with relays.running(2):
        await asyncio.gather(*(write(writer) for writer in range(4)))
        await poll_until(lambda: everything_sent(database), "the outbox is empty")
    total = sum(map(len, committed.values()))
    records = await read_topic(
        kafka_bootstrap, topic, lambda seen: sum(map(len, first_copies(seen).values())) >= total
    )
    assert first_copies(records) == committed


async def test_a_slow_transaction_with_an_early_id_is_not_skipped(
    relays: Relays, database: Database, kafka_bootstrap: str, topic: str
) -> None:
    """T1 draws id 1, T2 draws id 2 and commits, the relay passes, T1 commits: both are sent."""
    async with relays.running():
        async with database.transaction() as slow:
            await append(slow, make_event("slow", 1), topic)
            async with database.transaction() as quick:
                await append(quick, make_event("quick", 2), topic)
            await read_topic(kafka_bootstrap, topic, lambda seen: len(seen) >= 1)
        records = await read_topic(kafka_bootstrap, topic, lambda seen: len(seen) >= 2)
    assert first_copies(records) == {"slow": [1], "quick": [2]}


async def test_a_rolled_back_event_is_never_published(
    relays: Relays, database: Database, kafka_bootstrap: str, topic: str
) -> None:
    """O1: no orphan event."""
    async with relays.running():
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
    relays: Relays, database: Database, kafka_bootstrap: str, topic: str
) -> None:
    """Its backend is terminated: another connection becomes active and goes on."""
    async with relays.running(2):
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


async def test_clean_up_deletes_sent_rows_only(
    relays: Relays, database: Database, kafka_bootstrap: str, topic: str
) -> None:
    """Sent and old enough goes; unsent stays however old."""
    async with relays.running():
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
