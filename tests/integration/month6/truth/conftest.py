"""One shop at rest, built once; a private copy of all its stores for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from month6_capstone.truth import TruthSettings
from scalelab.clients.kafka import Message, ensure_topics, open_producer
from scalelab.lab.servers import Postgres
from tests.integration.month6.truth.small_shop import DATABASES, Snapshot, build, clone


@pytest.fixture(scope="session")
def shop_at_rest(postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    dsns = {
        name: postgres_server.ensure_database("truth_" + name.replace("-", "_"), "tester")
        for name in DATABASES
    }
    # On a loop of its own: an async fixture would keep one loop alive for all tests of the session,
    # and one test that is cut off inside it would take the others along.
    return asyncio.run(build(dsns, tmp_path_factory.mktemp("shop")))


class Stores:
    """A copy of the shop that a test may spoil before it is judged."""

    def __init__(self, snapshot: Snapshot, settings: TruthSettings, prefix: str) -> None:
        self.orders = snapshot.orders
        self.settings = settings
        self.records = [replace(record, topic=prefix + record.topic) for record in snapshot.records]

    def run(self, database: str, statement: str, *parameters: object) -> None:
        """Tamper with a database as its superuser, triggers off; must change a row."""
        dsn = self.settings.shards.get(database) or getattr(self.settings, database)
        with psycopg.connect(dsn) as conn:
            conn.execute("SET session_replication_role = replica")
            assert conn.execute(statement.encode(), parameters or None).rowcount != 0

    def shard_of(self, order: str) -> str:
        for name, dsn in self.settings.shards.items():
            with psycopg.connect(dsn) as conn:
                cursor = conn.execute(
                    "SELECT FROM orders WHERE order_id = %s", (self.orders[order],)
                )
                if cursor.fetchone() is not None:
                    return name
        raise AssertionError(f"no shard has {order}")

    async def publish(self, records: list[Message]) -> None:
        async with open_producer(self.settings.kafka_bootstrap, "truth-test") as producer:
            for record in records:  # one at a time: the order is what is tested
                await producer.send(record.topic, record.key, record.value, record.headers)


@pytest.fixture
async def stores(
    shop_at_rest: Snapshot,
    postgres_server: Postgres,
    kafka_bootstrap: str,
    topic_prefix: str,
    tmp_path: Path,
) -> AsyncGenerator[Stores]:
    """Cloned databases, copied files, and topics of its own with nothing on them yet."""
    superuser = postgres_server.superuser_dsn()
    dsns = {name: clone(superuser, dsn) for name, dsn in shop_at_rest.dsns.items()}
    (tmp_path / "book.jsonl").write_bytes(shop_at_rest.book)
    (tmp_path / "client.jsonl").write_bytes(shop_at_rest.client_log)
    settings = TruthSettings(
        shards={name: dsns[name] for name in ("shard-0", "shard-1")},
        payments=dsns["payments"],
        inventory=dsns["inventory"],
        kafka_bootstrap=kafka_bootstrap,
        book_path=tmp_path / "book.jsonl",
        client_log=tmp_path / "client.jsonl",
    )
    settings = replace(
        settings,
        topics=tuple(topic_prefix + topic for topic in settings.topics),
        dead_letter_topics=(topic_prefix + "orders.order.payments.dlq",),
    )
    for dsn in dsns.values():
        with psycopg.connect(dsn) as conn:
            conn.execute("UPDATE outbox SET topic = %s || topic", (topic_prefix,))
    await ensure_topics(
        kafka_bootstrap, dict.fromkeys((*settings.topics, *settings.dead_letter_topics), 2)
    )
    yield Stores(shop_at_rest, settings, topic_prefix)
    with psycopg.connect(superuser, autocommit=True) as conn:
        for dsn in dsns.values():
            conn.execute(f'DROP DATABASE "{dsn.rpartition("/")[2]}" WITH (FORCE)'.encode())
