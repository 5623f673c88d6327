"""Kafka goes away and comes back: the backlog leaves in order, appenders notice nothing."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from month3_messaging.outbox import append, count_unsent
from scalelab.clients.kafka import ensure_topics
from scalelab.clients.postgres import Database
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Kafka
from tests.integration.month3.messaging_bed import make_event, poll_until, read_topic
from tests.integration.month3.relay_bed import (
    Kind,
    Relays,
    first_copies,
    is_confirmed,
    position,
)


@pytest.fixture(scope="module")
def breakable(server_root: Path) -> Iterator[tuple[Runtime, Kafka]]:
    """A Kafka of these tests' own; whoever kills it brings it back."""
    with Runtime(server_root / "outage", private=True, is_disposable=True) as runtime:
        kafka = Kafka("kafka")
        runtime.start(kafka)
        yield runtime, kafka


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", list(Kind), ids=str)
async def test_a_backlog_drains_in_order_after_an_outage(
    breakable: tuple[Runtime, Kafka], database: Database, log_relays: Relays, kind: Kind
) -> None:
    """SIGKILL of the broker, appends without it, a restart: all there, per key in order. A relay
    that follows the log goes on confirming: what waits for Kafka waits in the table (L1)."""
    runtime, kafka = breakable
    topic = f"orders-{kind}"
    await ensure_topics(kafka.bootstrap, {topic: 3})
    numbers: defaultdict[str, int] = defaultdict(int)
    log_relays.kind, log_relays.bootstrap = kind, kafka.bootstrap

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

    async with log_relays.running():
        await write(60)
        await poll_until(all_sent, "sent before the outage")
        if kind is Kind.LOG:
            await poll_until(log_relays.are_following, "the relay follows the log")
        await asyncio.to_thread(runtime.kill, "kafka")
        await write(120)
        assert await unsent() == 120, "the fault bit: nothing left during the outage"
        if kind is Kind.LOG:
            written_to = await position(database)
            await poll_until(lambda: is_confirmed(log_relays, written_to), "the slot has moved on")
            assert await unsent() == 120, "and Kafka was away all the time"
        await asyncio.to_thread(runtime.restart, "kafka")
        await write(30)
        await poll_until(all_sent, "the backlog has drained")
    records = await read_topic(
        kafka.bootstrap, topic, lambda seen: len({r.headers["ce_id"] for r in seen}) == 210
    )
    assert first_copies(records) == {key: list(range(count)) for key, count in numbers.items()}
