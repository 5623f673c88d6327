"""Consumers are killed at named points, or frozen until others took over: effects happen once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from month3_messaging.broker import to_headers, to_value
from month3_messaging.workers import dead_letter_topic
from scalelab.clients.kafka import Message, open_producer
from scalelab.clients.postgres import Database
from tests.fixtures.tiers import Count
from tests.integration.month3.messaging_bed import make_event, poll_until, read_topic

PROGRAM = Path(__file__).with_name("consumer_process.py")
ROOT = Path(__file__).parents[4]
KEYS = [f"key-{n}" for n in range(6)]
EACH = 10


@asynccontextmanager
async def consumer(environment: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROGRAM),
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def effects(database: Database) -> Mapping[str, list[int]]:
    async with database.autocommit() as conn:
        cursor = await conn.execute(
            "SELECT key, array_agg(number ORDER BY id) FROM effect GROUP BY key"
        )
        return dict(await cursor.fetchall())


async def publish(bootstrap: str, topic: str) -> list[str]:
    """Every key's first event, every key's second …; their ids."""
    events = [make_event(key, number) for number in range(EACH) for key in KEYS]
    async with open_producer(bootstrap, "test") as producer:
        await producer.send_all(
            Message(topic, event.subject, to_value(event), to_headers(event)) for event in events
        )
    return [str(event.id) for event in events]


async def are_complete(database: Database) -> bool:
    return sum(map(len, (await effects(database)).values())) >= EACH * len(KEYS)


@pytest.fixture
def environment(
    tables_dsn: str, kafka_bootstrap: str, topic: str, topic_prefix: str
) -> dict[str, str]:
    return {
        "DSN": tables_dsn,
        "BOOTSTRAP": kafka_bootstrap,
        "TOPIC": topic,
        "GROUP": f"{topic_prefix}group",
    }


@pytest.mark.parametrize("point", ["consumer.handled", "consumer.committed"])
async def test_killed_consumers_have_each_effect_once(
    point: str,
    environment: dict[str, str],
    database: Database,
    kafka_bootstrap: str,
    topic: str,
) -> None:
    """Two members die between the effect's commit and the offset's, or just after it; a third
    finishes. Every effect is there once, per key in order."""
    await publish(kafka_bootstrap, topic)
    for _ in range(2):
        async with consumer({**environment, "CRASH_POINT": point, "CRASH_AT": "3"}) as victim:
            assert await asyncio.wait_for(victim.wait(), 60) == -signal.SIGKILL, "the fault bit"
    async with consumer(environment):
        await poll_until(lambda: are_complete(database), "all effects")
    assert await effects(database) == {key: list(range(EACH)) for key in KEYS}


@pytest.mark.parametrize(
    ("point", "passage"),
    [("consumer.handled", 9), ("consumer.passed_on", 2)],
)
async def test_killed_consumers_that_hold_keys_keep_each_key_in_order(
    point: str,
    passage: int,
    environment: dict[str, str],
    database: Database,
    kafka_bootstrap: str,
    topic: str,
) -> None:
    """One event of every key fails at first and one always; two members die with keys waiting and
    others far ahead of them. Nothing is lost: each event had its effect once, per key in order, or
    is a letter."""
    holding = {**environment, "ON_FAILURE": "hold_key", "FLAKY": "3", "POISON": "7"}
    holding["STATIC_MEMBER"] = "mortal"  # whoever comes next need not wait for the dead
    ids = await publish(kafka_bootstrap, topic)
    for _ in range(2):
        crash = {"CRASH_POINT": point, "CRASH_AT": str(passage)}
        async with consumer({**holding, **crash}) as victim:
            assert await asyncio.wait_for(victim.wait(), 60) == -signal.SIGKILL, "the fault bit"
    poisoned = set(ids[7 * len(KEYS) : 8 * len(KEYS)])
    dead = dead_letter_topic(topic, environment["GROUP"])
    async with consumer(holding):
        await read_topic(
            kafka_bootstrap, dead, lambda seen: poisoned <= {one.headers["ce_id"] for one in seen}
        )

        async def all_else_is_done() -> bool:
            return sum(map(len, (await effects(database)).values())) >= (EACH - 1) * len(KEYS)

        await poll_until(all_else_is_done, "all other effects")
    assert await effects(database) == {key: [n for n in range(EACH) if n != 7] for key in KEYS}
    letters = await read_topic(kafka_bootstrap, dead, lambda seen: len(seen) >= len(KEYS))
    assert {letter.headers["ce_id"] for letter in letters} == poisoned


@pytest.mark.parametrize(
    "point",
    ["consumer.before_commit", "consumer.handled", "consumer.passed_on", "consumer.committed"],
)
async def test_killed_consumers_of_batches_have_each_effect_once(
    point: str,
    environment: dict[str, str],
    database: Database,
    kafka_bootstrap: str,
    topic: str,
) -> None:
    """A member dies in or after the transaction of a batch, as a poisoned one has fallen apart, or
    after the commit of offsets; events come before and after its death. Each had its effect once,
    per key in order, or is a letter."""
    batching = {**environment, "IN_BATCHES": "yes", "POISON": "7", "STATIC_MEMBER": "mortal"}
    poisoned: set[str] = set()

    async def publish_more() -> None:
        ids = await publish(kafka_bootstrap, topic)
        poisoned.update(ids[7 * len(KEYS) : 8 * len(KEYS)])

    await publish_more()
    async with consumer({**batching, "CRASH_POINT": point, "CRASH_AT": "2"}) as victim:
        assert await asyncio.wait_for(victim.wait(), 60) == -signal.SIGKILL, "the fault bit"
    await publish_more()
    dead = dead_letter_topic(topic, environment["GROUP"])
    async with consumer(batching):
        letters = await read_topic(
            kafka_bootstrap, dead, lambda seen: poisoned <= {one.headers["ce_id"] for one in seen}
        )

        async def all_else_is_done() -> bool:
            return sum(map(len, (await effects(database)).values())) >= 2 * (EACH - 1) * len(KEYS)

        await poll_until(all_else_is_done, "all other effects")
    assert {letter.headers["ce_id"] for letter in letters} == poisoned
    assert await effects(database) == {key: [n for n in range(EACH) if n != 7] * 2 for key in KEYS}


@pytest.mark.timeout(3600)
async def test_woken_zombies_change_nothing(
    environment: dict[str, str],
    database: Database,
    kafka_bootstrap: str,
    topic: str,
    count: Count,
) -> None:
    """A member freezes as a handler begins, loses its partitions to another one that does all the
    work, and wakes up in the middle of its handler: the inbox refuses its late effect. 50 times
    with --nightly, over one history of effects."""
    zombies = count(50, share=0.02)
    for number in range(zombies):
        await freeze_and_wake(environment, database, kafka_bootstrap, topic, done=2 * number)
    assert await effects(database) == {key: [*range(EACH)] * 2 * zombies for key in KEYS}


async def freeze_and_wake(
    environment: dict[str, str], database: Database, bootstrap: str, topic: str, *, done: int
) -> None:
    """One frozen member and its heir. done: rounds of events that have had their effects."""

    async def are_done(rounds: int) -> bool:
        return sum(map(len, (await effects(database)).values())) >= rounds * EACH * len(KEYS)

    await publish(bootstrap, topic)
    async with consumer({**environment, "FREEZE_AT": "4"}) as zombie:

        async def is_frozen() -> bool:
            return psutil.Process(zombie.pid).status() == psutil.STATUS_STOPPED

        await poll_until(is_frozen, "the member has frozen")
        assert not await are_done(done + 1), "the fault bit"
        async with consumer(environment) as heir:
            await poll_until(lambda: are_done(done + 1), "the heir has done all")
            zombie.send_signal(signal.SIGCONT)

            async def is_running() -> bool:
                return psutil.Process(zombie.pid).status() != psutil.STATUS_STOPPED

            await poll_until(is_running, "the zombie is awake")
            heir.send_signal(signal.SIGKILL)
            await heir.wait()
        # The zombie inherits again and sees every event that was not committed by the heir.
        await publish(bootstrap, topic)
        await poll_until(lambda: are_done(done + 2), "the woken member works on")
