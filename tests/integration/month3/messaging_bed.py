"""Steps that month 3's tests on real servers share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from month3_messaging.broker import Event
from scalelab.clients.kafka import Record, open_consumer

DEADLINE_S = 60.0
"""How long a test polls for what must come; far beyond what it takes on a quiet machine."""


async def poll_until(
    holds: Callable[[], Awaitable[bool]], what: str, *, within_s: float = DEADLINE_S
) -> None:
    """Return once `holds()`; fail naming `what` after `within_s`."""
    try:
        async with asyncio.timeout(within_s):
            while not await holds():  # noqa: ASYNC110 - the state is on a server
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"not within {within_s} s: {what}")


async def read_topic(
    bootstrap: str, topic: str, enough: Callable[[list[Record]], bool]
) -> list[Record]:
    """All records of a topic, from its start, until `enough` says so."""
    records: list[Record] = []
    async with open_consumer(bootstrap, f"reader-{uuid4()}", [topic]) as consumer:
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not enough(records):
                    records.extend(await consumer.getmany(timeout_ms=100))
        except TimeoutError:
            pytest.fail(f"only {len(records)} records on {topic} within {DEADLINE_S} s")
    return records


def make_event(key: str, number: int = 0, kind: str = "test.thing.happened.v1") -> Event:
    return Event(uuid4(), kind, "/test", key, datetime.now(UTC), {"number": number})
