"""A relay process is killed at each named point, again and again: duplicates, nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

from month3_messaging.outbox import append, count_unsent
from scalelab.clients.kafka import Record
from scalelab.clients.postgres import Database
from tests.integration.month3.messaging_bed import make_event, poll_until, read_topic

PROGRAM = Path(__file__).with_name("relay_process.py")
ROOT = Path(__file__).parents[4]
EVENTS_PER_KEY = 15
KEYS = [f"key-{n}" for n in range(4)]


async def start_relay(environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROGRAM),
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=asyncio.subprocess.DEVNULL,
    )


@pytest.mark.parametrize("point", ["outbox.read", "outbox.sent", "outbox.marked"])
async def test_killed_relays_lose_nothing_and_keep_the_order(
    point: str, database: Database, tables_dsn: str, kafka_bootstrap: str, topic: str
) -> None:
    """Three relays die by SIGKILL at `point`, a fourth finishes: every event is on the topic, the
    first copies of each key in order; between send and mark there really were duplicates."""
    async with database.transaction() as conn:
        for number in range(EVENTS_PER_KEY):
            for key in KEYS:
                await append(conn, make_event(key, number), topic)
    environment = {"DSN": tables_dsn, "BOOTSTRAP": kafka_bootstrap}
    for _ in range(3):
        victim = await start_relay({**environment, "CRASH_POINT": point, "CRASH_AT": "1"})
        assert await asyncio.wait_for(victim.wait(), 60) == -signal.SIGKILL, "the fault bit"
    survivor = await start_relay(environment)
    try:

        async def is_empty() -> bool:
            async with database.autocommit() as conn:
                return await count_unsent(conn) == 0

        await poll_until(is_empty, "the survivor has sent everything")
    finally:
        survivor.send_signal(signal.SIGKILL)
        await survivor.wait()
    total = EVENTS_PER_KEY * len(KEYS)
    records = await read_topic(
        kafka_bootstrap, topic, lambda seen: len({r.headers["ce_id"] for r in seen}) == total
    )
    first: defaultdict[str | None, list[int]] = defaultdict(list)
    known: set[str] = set()
    for record in records:
        if record.headers["ce_id"] not in known:
            known.add(record.headers["ce_id"])
            first[record.key].append(number_of(record))
    assert first == {key: list(range(EVENTS_PER_KEY)) for key in KEYS}
    if point == "outbox.sent":
        assert len(records) > total, "a crash between send and mark repeats the batch"


def number_of(record: Record) -> int:
    assert record.value is not None
    return json.loads(record.value)["number"]
