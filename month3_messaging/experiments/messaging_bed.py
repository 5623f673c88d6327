"""What experiments about delivery share: one PostgreSQL, one Kafka, a bed for each arm."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

import psycopg

from month3_messaging.experiments.mortal_process import TABLES, Bed
from scalelab.clients.kafka import Partition, Record, ensure_topics, open_consumer
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Kafka, Postgres

PARTITIONS = 3
_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Messaging:
    """The two servers of an experiment."""

    postgres: Postgres
    kafka: Kafka

    def bed(self, name: str) -> Bed:
        """A fresh database, topic and slot of that name. Its role may replicate."""
        word = re.sub(r"[^a-z0-9_]", "_", name.lower())[:40]
        dsn = self.postgres.ensure_database(word, word)
        with psycopg.connect(self.postgres.superuser_dsn(), autocommit=True) as conn:
            conn.execute(f'ALTER ROLE "{word}" REPLICATION'.encode())
        with psycopg.connect(dsn) as conn:
            conn.execute(TABLES.encode())
        asyncio.run(ensure_topics(self.kafka.bootstrap, {word: PARTITIONS}))
        return Bed(dsn, self.kafka.bootstrap, word, f"{word}.group", f"slot_{word}")

    async def ids_on(self, topic: str) -> list[str]:
        """The event id of every record of `topic`, copies included."""
        return [record.headers["ce_id"] for record in await self.records_of(topic)]

    async def records_of(self, topic: str) -> list[Record]:
        """Every record that is on `topic` now, in order per partition."""
        return await records_of(self.kafka.bootstrap, topic)


def start_messaging(runtime: Runtime, name: str) -> Messaging:
    """Both servers, private. PostgreSQL does not sync: a killed process loses nothing it wrote."""
    postgres = Postgres(f"{name}-postgres", settings={"fsync": "off", "full_page_writes": "off"})
    kafka = Kafka(f"{name}-kafka")
    runtime.start(postgres, kafka)
    return Messaging(postgres, kafka)


async def records_of(bootstrap: str, topic: str) -> list[Record]:
    """Every record that is on `topic` now, in order per partition."""
    records: list[Record] = []
    async with (
        asyncio.timeout(_WITHIN_S),
        open_consumer(bootstrap, f"reader-{uuid4()}", [topic]) as consumer,
    ):
        ends: dict[Partition, int] = {}
        while not ends or _reached(records) != {p: end for p, end in ends.items() if end}:
            records.extend(await consumer.getmany(timeout_ms=100))
            if not ends:
                ends = await consumer.end_offsets(consumer.assignment())
    return records


def _reached(records: Sequence[Record]) -> dict[Partition, int]:
    reached: dict[Partition, int] = {}
    for record in records:
        reached[record.topic, record.partition] = record.offset + 1
    return reached
