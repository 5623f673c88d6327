"""One node away and back, lived through once: what is served, what heals, and how.

Three registers a table are written everywhere, then written again while node 3 is away. What the
tests judge is what the story saw.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random

import pytest

from month2_databases.consistency import (
    Guarantee,
    Level,
    Ring,
    RingSession,
    Seen,
    open_ring,
    read_until,
)
from month2_databases.experiments.ring_bed import RingBed
from scalelab.errors import ScalelabError
from scalelab.resilience.retry import RetryPolicy

pytestmark = pytest.mark.timeout(400)

TABLES = ("unrepaired", "unhinted", "unhealed")
KEYS = ("a", "b", "c")
OLD, NEW = "written everywhere", "written without node 3"


@dataclass
class Story:
    """What happened. codes: outcome by level and kind while node 3 was away, "" for done."""

    codes: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    swapped: bool = False
    at_return: dict[str, list[object]] = field(default_factory=dict[str, list[object]])
    hints_played: bool = False
    by_quorum: dict[str, list[object]] = field(default_factory=dict[str, list[object]])
    after_quorum: dict[str, list[object]] = field(default_factory=dict[str, list[object]])
    blind: Seen | None = None
    own: Seen | None = None
    attempts: int = 0


@pytest.fixture(scope="module")
def story(ring_bed: RingBed) -> Story:
    """Lived once for all tests of this file."""
    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(lambda: asyncio.run(live(ring_bed))).result()


async def live(bed: RingBed) -> Story:
    seen = Story()
    async with open_ring(bed.settings("tests")) as ring:
        for table in TABLES:
            for key in KEYS:
                await put(ring, table, key, OLD, Level.ALL)
        sessions = {
            guarantee: RingSession(ring, "unhealed", guarantee=guarantee, now_us=now_us)
            for guarantee in (Guarantee.NONE, Guarantee.READ_YOUR_WRITES)
        }
        async with bed.without(ring, 3):
            for table in TABLES:
                for key in KEYS:
                    await put(ring, table, key, NEW, Level.QUORUM)
            for level in (Level.ONE, Level.QUORUM, Level.ALL):
                write = put(ring, "register", "served", "x", level)
                seen.codes[level, "write"] = await code_of(write)
                seen.codes[level, "read"] = await code_of(get(ring, "register", "served", level))
            for guarantee, session in sessions.items():
                await session.write(f"of {guarantee.value}", "mine", via=ring.addresses[0])
            swap = await ring.compare_and_set(
                "INSERT INTO register (key, value) VALUES (?, ?) IF NOT EXISTS", ("swap", "x")
            )
            seen.swapped = swap.applied
        await look(bed, ring, seen, sessions)
    return seen


async def look(
    bed: RingBed, ring: Ring, seen: Story, sessions: dict[Guarantee, RingSession]
) -> None:
    """Node 3 is back: read what it has, before and after it was read with another."""
    third = ring.addresses[2]
    for table in ("unhinted", "unhealed"):
        seen.at_return[table] = [await get(ring, table, key, Level.ONE, third) for key in KEYS]
    seen.blind = await sessions[Guarantee.NONE].read("of 0", via=third)
    seen.own = await sessions[Guarantee.READ_YOUR_WRITES].read("of 1", via=third)
    seen.attempts = (
        await read_until(
            lambda attempt: get(ring, "unhealed", "a", Level.ONE, ring.addresses[2 - attempt]),
            lambda value: value == NEW,
            policy=RetryPolicy(attempts=3),
            random=Random(1),
            sleep=asyncio.sleep,
        )
    ).attempts
    for table in ("unhinted", "unhealed"):
        seen.by_quorum[table] = [await get(ring, table, key, Level.QUORUM, third) for key in KEYS]
        seen.after_quorum[table] = [await get(ring, table, key, Level.ONE, third) for key in KEYS]
    deadline_s = time.monotonic() + 90.0
    while not seen.hints_played and time.monotonic() < deadline_s:
        values = [await get(ring, "unrepaired", key, Level.ONE, third) for key in KEYS]
        seen.hints_played = values == [NEW] * 3
        await asyncio.sleep(0.1)


async def put(ring: Ring, table: str, key: str, value: str, level: Level) -> None:
    """Through node 1, which thereby keeps the hints."""
    statement = f"INSERT INTO {table} (key, value) VALUES (?, ?)"
    await ring.write(statement, (key, value), level=level, via=ring.addresses[0])


async def get(ring: Ring, table: str, key: str, level: Level, via: str | None = None) -> object:
    rows = await ring.read(
        f"SELECT value FROM {table} WHERE key = ?",
        (key,),
        level=level,
        via=via or ring.addresses[0],
    )
    return rows[0]["value"] if rows else None


async def code_of(request: Awaitable[object]) -> str:
    """The stable code of its error, "" if it was done."""
    try:
        await request
    except ScalelabError as error:
        return error.stable_code
    return ""


def now_us() -> int:
    return time.time_ns() // 1000


@pytest.mark.parametrize("kind", ["read", "write"])
def test_with_a_node_away_all_is_refused_and_the_rest_served(story: Story, kind: str) -> None:
    """Refused means: nothing was done, and the error says so."""
    assert [story.codes[level, kind] for level in ("ONE", "QUORUM", "ALL")] == [
        "",
        "",
        "too_few_replicas",
    ]


def test_with_a_node_away_compare_and_set_goes_on(story: Story) -> None:
    """It needs a quorum, like a quorum write."""
    assert story.swapped


@pytest.mark.parametrize("table", ["unhinted", "unhealed"])
def test_a_node_that_comes_back_shows_the_past_at_one(story: Story, table: str) -> None:
    """Where no hint is played back, nothing tells it what it has missed."""
    assert story.at_return[table] == [OLD] * 3


def test_hints_bring_a_node_up_to_date_without_a_read(story: Story) -> None:
    """What the coordinator kept for it arrives by itself."""
    assert story.hints_played


@pytest.mark.parametrize("table", ["unhinted", "unhealed"])
def test_a_quorum_meets_the_write_though_a_replica_missed_it(story: Story, table: str) -> None:
    """Two of three share a replica with the two that had acknowledged."""
    assert story.by_quorum[table] == [NEW] * 3


def test_a_quorum_read_repairs_the_replica_that_it_asked(story: Story) -> None:
    """Afterwards the node has it by itself; where the table forbids it, it has not."""
    assert story.after_quorum["unhinted"] == [NEW] * 3
    assert story.after_quorum["unhealed"] == [OLD] * 3


def test_a_session_with_a_token_is_shown_its_own_write_where_one_without_is_not(
    story: Story,
) -> None:
    """Asked of the node that missed it: the token refuses the answer and goes elsewhere."""
    assert story.blind is not None
    assert (story.blind.value, story.blind.asked) == (None, 1)
    assert story.own is not None
    assert (story.own.value, story.own.asked) == ("mine", 2)


def test_reading_until_the_own_write_is_visible_takes_the_next_replica(story: Story) -> None:
    """The first attempt goes to the node that missed it, the second to one that did not."""
    assert story.attempts == 2
