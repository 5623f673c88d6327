"""Claims about writing behind: order, bounds, retries, and what a kill costs, counted."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from month1_caching_gateway.caching import (
    CacheAside,
    CacheEvent,
    Codec,
    Outcome,
    Policy,
    RedisStore,
    Versioned,
    WriteBehind,
    WriteBehindPolicy,
    WritesLost,
)
from scalelab.clients import redis as redis_client
from scalelab.clock import SystemClock
from scalelab.errors import InvalidInput, Overloaded, Unavailable
from scalelab.resilience.backoff import Backoff

ROOT = Path(__file__).parents[4]
QUICK = Backoff(first_s=0.001, cap_s=0.01)


class Origin:
    """Rows whose batches a test can hold or let fail."""

    def __init__(self) -> None:
        self.rows: dict[str, Versioned[str]] = {}
        self.batches: list[dict[str, str]] = []
        self.errors: list[Exception] = []
        self.refused: set[str] = set()
        self.open = asyncio.Event()
        self.open.set()
        self._begun = asyncio.Semaphore(0)

    async def write(self, values: Mapping[str, str]) -> dict[str, int]:
        self.batches.append(dict(values))
        self._begun.release()
        await self.open.wait()
        if self.errors:
            raise self.errors.pop(0)
        if self.refused & values.keys():
            raise InvalidInput("no such row can be")
        for key, value in values.items():
            before = self.rows[key].version if key in self.rows else 0
            self.rows[key] = Versioned(value, before + 1)
        return {key: self.rows[key].version for key in values}

    async def read(self, keys: Sequence[str]) -> dict[str, Versioned[str]]:
        return {key: self.rows[key] for key in keys if key in self.rows}

    async def begun(self) -> None:
        async with asyncio.timeout(20):
            await self._begun.acquire()


class Bench:
    """A write-behind over an origin, and what its hook heard."""

    def __init__(self, cache: CacheAside[str], origin: Origin, policy: WriteBehindPolicy) -> None:
        self.origin = origin
        self.cache = cache
        self.events: list[CacheEvent] = []
        self.behind = WriteBehind(
            cache, origin.write, policy=policy, random=Random(1), hook=self.events.append
        )

    def lost(self) -> list[CacheEvent]:
        return [event for event in self.events if isinstance(event, WritesLost)]


@asynccontextmanager
async def bench(url: str, policy: WriteBehindPolicy) -> AsyncIterator[Bench]:
    client = redis_client.connect(url, timeout_s=10.0, connect_timeout_s=30.0)
    origin = Origin()
    cache: CacheAside[str] = CacheAside(
        origin.read,
        RedisStore(client, namespace="behind", clock=SystemClock()),
        Codec(str.encode, bytes.decode),
        policy=Policy(),
        random=Random(1),
    )
    async with cache:
        yield Bench(cache, origin, policy)
    await client.aclose()


async def test_ten_writes_of_a_key_are_one_and_the_last_one_counts(redis_url: str) -> None:
    """Coalescing; and the process reads its own writes before anybody has written them."""
    async with (
        bench(redis_url, WriteBehindPolicy(flush_every_s=3600.0)) as made,
        made.behind as behind,
    ):
        for number in range(10):
            behind.put("a", f"value-{number}")
            answer = await behind.get("a")
            assert (answer.value, answer.outcome) == (f"value-{number}", Outcome.NEAR)
        assert (await made.cache.get("a")).value is None
        await behind.flush()
        assert made.origin.batches == [{"a": "value-9"}]
        assert (await made.cache.get("a")).value == "value-9"


async def test_a_keys_writes_arrive_in_order_and_a_slow_batch_is_not_overtaken(
    redis_url: str,
) -> None:
    """A write accepted during a batch goes in the next, after it."""
    async with (
        bench(redis_url, WriteBehindPolicy(batch=1, flush_every_s=0.001)) as made,
        made.behind as behind,
    ):
        made.origin.open.clear()
        behind.put("a", "first")
        await made.origin.begun()
        behind.put("a", "second")
        assert (await behind.get("a")).value == "second"
        made.origin.open.set()
        await behind.flush()
        assert made.origin.batches == [{"a": "first"}, {"a": "second"}]
        assert (await made.cache.get("a")).value == "second"


async def test_a_source_that_is_away_is_asked_until_it_is_back(redis_url: str) -> None:
    """G2: nothing is lost, nothing newer is covered by what is tried again."""
    policy = WriteBehindPolicy(flush_every_s=0.001, backoff=QUICK)
    async with bench(redis_url, policy) as made:
        made.origin.errors = [Unavailable("away") for _ in range(5)]
        made.origin.open.clear()
        async with made.behind as behind:
            behind.put("a", "old")
            behind.put("b", "only")
            await made.origin.begun()
            behind.put("a", "new")
            made.origin.open.set()
            await behind.flush()
        assert {key: row.value for key, row in made.origin.rows.items()} == {
            "a": "new",
            "b": "only",
        }
        assert len(made.origin.batches) == 6
        assert made.lost() == []


async def test_what_waits_is_bounded(redis_url: str) -> None:
    """G1: the key over the limit is refused at once; one that waits already may change."""
    async with bench(redis_url, WriteBehindPolicy(limit=3, batch=3)) as made:
        made.origin.open.clear()
        async with made.behind as behind:
            for key in "abc":
                behind.put(key, "x")
            await made.origin.begun()
            with pytest.raises(Overloaded) as caught:
                behind.put("d", "x")
            behind.put("a", "y")
            made.origin.open.set()
        assert caught.value.stable_code == "write_behind_full"
        assert {key: row.value for key, row in made.origin.rows.items()} == {
            "a": "y",
            "b": "x",
            "c": "x",
        }


async def test_a_row_the_source_refuses_is_given_up_alone(redis_url: str) -> None:
    """G3: told by number, and its neighbours are written."""
    async with bench(redis_url, WriteBehindPolicy(flush_every_s=0.001)) as made:
        made.origin.refused = {"bad"}
        async with made.behind as behind:
            for key in ("a", "bad", "b"):
                behind.put(key, "x")
            await behind.flush()
            assert behind.waiting == 0
        assert made.origin.rows.keys() == {"a", "b"}
        assert made.lost() == [WritesLost(1, "invalid_input")]


async def test_leaving_writes_what_waits(redis_url: str) -> None:
    """And afterwards nothing is accepted."""
    async with bench(redis_url, WriteBehindPolicy(flush_every_s=3600.0)) as made:
        async with made.behind as behind:
            for number in range(20):
                behind.put(f"k{number}", "x")
        assert len(made.origin.rows) == 20
        with pytest.raises(Overloaded):
            behind.put("late", "x")


async def test_leaving_while_the_source_is_away_tells_what_is_lost(redis_url: str) -> None:
    """G2: no silence about it."""
    policy = WriteBehindPolicy(stop_within_s=0.05, backoff=QUICK)
    async with bench(redis_url, policy) as made:
        made.origin.open.clear()
        async with made.behind as behind:
            for number in range(7):
                behind.put(f"k{number}", "x")
        assert made.lost() == [WritesLost(7, "stopped")]


@pytest.mark.parametrize("ending", ["killed", "stopped"])
async def test_a_kill_loses_exactly_what_was_accepted_and_not_written(
    redis_url: str, tmp_path: Path, ending: str
) -> None:
    """The price of writing behind: 90 accepted, 50 written, SIGKILL: 40 are gone and nobody was
    told. Stopped in an orderly way the same process loses none."""
    file = tmp_path / "rows.sqlite"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("behind_process.py")),
        str(file),
        redis_url,
        "50",
        "40",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert await process.stdout.readline() == b"90 accepted\n"
        if ending == "killed":
            process.kill()
        await process.communicate(None if ending == "killed" else b"stop\n")
    connection = sqlite3.connect(file)
    (rows,) = connection.execute("SELECT count(*) FROM row").fetchone()
    connection.close()
    assert 90 - rows == (40 if ending == "killed" else 0)


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"limit": 2, "batch": 3}, {"flush_every_s": 0.0}])
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, float]) -> None:
    """No batch, no places, no time."""
    with pytest.raises(InvalidInput):
        WriteBehindPolicy(**wrong)  # pyright: ignore[reportArgumentType]
