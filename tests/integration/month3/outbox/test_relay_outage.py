"""Kafka goes away and comes back: the backlog leaves in order, appenders notice nothing."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from month3_messaging.outbox import RelayMetrics, RelaySettings, append, count_unsent, keep_relaying
from scalelab.clients.kafka import ensure_topics
from scalelab.clients.postgres import Database
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Kafka
from scalelab.telemetry import Telemetry
from tests.integration.month3.messaging_bed import make_event, poll_until, read_topic


@pytest.fixture
def breakable(server_root: Path) -> Iterator[tuple[Runtime, Kafka]]:
    """A Kafka of this test's own."""
    with Runtime(server_root / "outage", private=True) as runtime:
        kafka = Kafka("kafka")
        runtime.start(kafka)
        yield runtime, kafka


@pytest.mark.timeout(240)
async def test_a_backlog_drains_in_order_after_an_outage(
    breakable: tuple[Runtime, Kafka], database: Database, telemetry: Telemetry
) -> None:
    """SIGKILL of the broker, appends without it, a restart: all there, per key in order."""
    runtime, kafka = breakable
    topic = "orders"
    await ensure_topics(kafka.bootstrap, {topic: 3})
    numbers: defaultdict[str, int] = defaultdict(int)

    async def write(count: int) -> None:
        for turn in range(count):
            key = f"key-{turn % 6}"
            async with database.transaction() as conn:
                await append(conn, make_event(key, numbers[key]), topic)
            numbers[key] += 1

    async def unsent() -> int:
        async with database.autocommit() as conn:
            return await count_unsent(conn)

    async def all_sent() -> bool:
        return await unsent() == 0

    relay = asyncio.create_task(
        keep_relaying(
            database,
            kafka.bootstrap,
            client_id="relay",
            metrics=RelayMetrics(telemetry.registry),
            log=telemetry.log,
            settings=RelaySettings(poll_s=0.05, standby_s=0.1),
        )
    )
    try:
        await write(60)
        await poll_until(all_sent, "sent before the outage")
        await asyncio.to_thread(runtime.kill, "kafka")
        await write(120)
        assert await unsent() == 120, "the fault bit: nothing left during the outage"
        await asyncio.to_thread(runtime.restart, "kafka")
        await write(30)
        await poll_until(all_sent, "the backlog has drained")
    finally:
        relay.cancel()
        await asyncio.gather(relay, return_exceptions=True)
    records = await read_topic(
        kafka.bootstrap, topic, lambda seen: len({r.headers["ce_id"] for r in seen}) == 210
    )
    first: defaultdict[str, list[int]] = defaultdict(list)
    known: set[str] = set()
    for record in records:
        if record.headers["ce_id"] not in known:
            known.add(record.headers["ce_id"])
            assert record.key is not None
            assert record.value is not None
            first[record.key].append(json.loads(record.value)["number"])
    assert first == {key: list(range(count)) for key, count in numbers.items()}
