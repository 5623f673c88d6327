"""Reads on replicas: what read-your-writes adds to a query, and what naive reads show.

CPU is of this process, per query by primary key on a prepared statement; both sides ask the same
replica over the same kind of pool, and every answer is checked. Stale reads and shares are counted.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from random import Random
from statistics import median

from sqlalchemy import Column, Integer, MetaData, Table, Text, select

from month2_databases.experiments.replicated import KEY, Replicated, start_replicated
from month2_databases.replication import (
    ANY_REPLICA,
    CAUSAL,
    READ_YOUR_WRITES,
    ClientSession,
    PoolSizes,
    ReadPolicy,
    ReadRouted,
    ServerRole,
    SessionRouter,
)
from month2_databases.replication.sqlalchemy_sessions import SqlSessions
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.lab.course.bench import AnyFigure, Figure, LimitFigure, Options
from scalelab.lab.course.ratio import Round, compare

MONTH = "month2"
_NAME = "replica_reads"
_QUERY = "SELECT v FROM note WHERE k = %s"
_ADDED_US = 15.0
_UNIT = "CPU µs/query"
_TRIES = 20
_BATCH = 40
_BATCHES_A_ROUND = 24
_LATE_MS = 40
_NOTE = Table("note", MetaData(), Column("k", Text, primary_key=True), Column("v", Integer))

Query = Callable[[], Awaitable[None]]


def run(options: Options) -> list[AnyFigure]:
    """All figures; takes about a minute and a half."""
    made = start_replicated(options.runtime, "bench-reads", settings={"fsync": "off"})
    with asyncio.Runner() as runner:
        bed = runner.run(_Bed(made).open())
        try:
            return [*_costs(options, runner, bed), *_counts(options, runner, bed)]
        finally:
            runner.run(bed.close())


class _Bed:
    """A router on the cluster, a bare pool on its first replica, and a session that has written."""

    def __init__(self, made: Replicated) -> None:
        self.made = made
        self.events: list[ReadRouted] = []
        self._stack = AsyncExitStack()

    async def open(self) -> _Bed:
        """Connect, write one row, and wait until both replicas have it."""
        settings = self.made.settings
        enter = self._stack.enter_async_context
        pools = PoolSizes(wait_s=20.0, replica_wait_s=20.0)
        router = SessionRouter(settings, token_keys=[KEY], clock=SystemClock(), pools=pools)
        self.router = await enter(router)
        # One replica alone, so that both sides have the same connections to choose from.
        lone = type(settings)(settings.name, settings.primary, settings.replicas[:1])
        self.lone = await enter(
            SessionRouter(lone, token_keys=[KEY], clock=SystemClock(), pools=pools)
        )
        self.sql = await enter(SqlSessions(self.lone, lone))
        bare = PostgresSettings(settings.replicas[0].dsn, pool_max=pools.replica, is_read_only=True)
        self.bare = await enter(Database(bare, name="bare"))
        self.session = self.lone.session()
        await put(self.session, "k", 7)
        await self.caught_up(self.lone)
        await self.caught_up(self.router)
        return self

    async def close(self) -> None:
        """Give everything back."""
        await self._stack.aclose()

    async def caught_up(self, router: SessionRouter) -> None:
        """Wait until every replica has all of the log."""
        async with asyncio.timeout(60):
            behind = True
            while behind:
                await asyncio.sleep(0.01)
                views = router.cluster.views()
                behind = any(router.cluster.lag_bytes(view.name) != 0 for view in views)

    async def ask_bare(self) -> None:
        """The query on the replica, by hand."""
        async with self.bare.autocommit(read_only=True) as conn:
            cursor = await conn.execute(_QUERY, ("k",))
            _check(await cursor.fetchone())

    def ask(self, policy: ReadPolicy) -> Query:
        """The query through a session that has written.

        The log moves on by itself now and then, and a causal read may see that before the next
        poll does; then the replica is behind for a moment. The middle batch does not notice.
        """

        async def query() -> None:
            for _ in range(_TRIES):
                read = self.session.read(policy)
                async with read as reading:
                    _check(await reading.fetch_one(_QUERY, ("k",)))
                if read.role is ServerRole.REPLICA:
                    return
                await self.caught_up(self.lone)
            raise AssertionError(f"the primary was read, {_TRIES} times")

        return query

    async def ask_sql(self) -> None:
        """The query through SQLAlchemy Core in AUTOCOMMIT, with the same promise."""
        async with self.sql.read(self.session, READ_YOUR_WRITES) as reading:
            found = await reading.scalars(select(_NOTE.c.v).where(_NOTE.c.k == "k"))
        _check(tuple(found))


def _check(row: object) -> None:
    if row != (7,):
        raise AssertionError(f"a wrong answer: {row!r}")


async def put(session: ClientSession, key: str, value: int) -> None:
    """One write in a transaction of its own."""
    async with session.write() as writing:
        await writing.execute(
            "INSERT INTO note (k, v) VALUES (%s, %s) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
            (key, value),
        )


def _costs(options: Options, runner: asyncio.Runner, bed: _Bed) -> Iterator[AnyFigure]:
    arms: dict[str, Query] = {
        "bare": bed.ask_bare,
        "bare again": bed.ask_bare,
        "any": bed.ask(ANY_REPLICA),
        "own": bed.ask(READ_YOUR_WRITES),
        "causal": bed.ask(CAUSAL),
        "sql": bed.ask_sql,
    }
    options.note(f"in turns, {_BATCH} queries at a time: {', '.join(arms)}")
    batches = options.rounds * _BATCHES_A_ROUND
    costs = runner.run(_in_turns(arms, batches, options.generator))

    def added(arm: str, to: str) -> float:
        """What an arm costs more than another, in the middle one of their batches side by side."""
        return round(median(a - b for a, b in zip(costs[arm], costs[to], strict=True)), 2)

    if abs(added("bare again", "bare")) > 0.05 * median(costs["bare"]):
        options.note("the control is off: this machine is too busy")
    yield _shown("bare query on a replica", _UNIT, median(costs["bare"]))
    yield _shown("bare, twice: difference", _UNIT, added("bare again", "bare"))
    yield LimitFigure(
        _NAME, "read-your-writes adds", _UNIT, added("own", "bare"), "at_most", _ADDED_US
    )
    yield _shown("of which over any replica", _UNIT, added("own", "any"))
    yield _shown("causal adds (it asks once more)", _UNIT, added("causal", "bare"))
    pairs = [Round(a, b) for a, b in zip(costs["sql"], costs["own"], strict=True)]
    ratio = compare(pairs, options.generator)
    unit = f"{_UNIT}, peer / ours"
    peer = "SQLAlchemy Core, AUTOCOMMIT"
    yield Figure(_NAME, "own read", peer, unit, ratio, "at_least", 2.2)


async def _in_turns(
    arms: Mapping[str, Query], batches: int, random: Random
) -> dict[str, list[float]]:
    """CPU µs a query of every arm, batch by batch, in a new order each time.

    Batches of some ms, so that what else the machine does meets all arms alike; the first of each
    is dropped.
    """
    costs: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(batches + 1):
        gc.collect()
        for name in random.sample(list(arms), len(arms)):
            begun_s = time.process_time()
            for _ in range(_BATCH):
                await arms[name]()
            if number:
                costs[name].append((time.process_time() - begun_s) / _BATCH * 1e6)
    return costs


def _counts(options: Options, runner: asyncio.Runner, bed: _Bed) -> Iterator[AnyFigure]:
    options.note(f"counting: replay {_LATE_MS} ms late on one replica, paused on the other")
    with _lagging(bed):
        stale = {
            policy.guarantee: runner.run(_stale(bed, policy))
            for policy in (READ_YOUR_WRITES, ANY_REPLICA)
        }
    own, naive = stale[READ_YOUR_WRITES.guarantee], stale[ANY_REPLICA.guarantee]
    yield LimitFigure(_NAME, "stale own reads of 1,000, lag injected", "reads", own, "at_most", 0)
    yield _shown("the same with any replica (naive)", "reads", naive)
    share, mixed = runner.run(_shares(bed))
    yield LimitFigure(_NAME, "own reads on replicas, caught up", "share", share, "at_least", 0.9)
    yield _shown("the same, 1 write before 9 reads without a pause", "share", mixed)


@contextmanager
def _lagging(bed: _Bed) -> Iterator[None]:
    cluster = bed.made.cluster
    cluster.delay_replay(1, _LATE_MS)
    cluster.pause_replay(2)
    try:
        yield
    finally:
        cluster.resume_replay(2)
        cluster.delay_replay(1, 0)


async def _stale(bed: _Bed, policy: ReadPolicy, *, pairs: int = 1000) -> int:
    """Write, read at once, so many times; how many of the reads were older than the write."""
    session, stale = bed.router.session(), 0
    for value in range(pairs):
        await put(session, "own", value)
        async with session.read(policy) as reading:
            row = await reading.fetch_one(_QUERY, ("own",))
        stale += row is None or row[0] != value
    return stale


async def _shares(bed: _Bed) -> tuple[float, float]:
    """Shares of reads on replicas: after catching up, and right behind writes."""
    session = bed.router.session()
    await put(session, "share", 1)
    await bed.caught_up(bed.router)
    rested = [await _role(session) for _ in range(2000)]
    mixed: list[bool] = []
    for value in range(200):
        await put(session, "share", value)
        mixed += [await _role(session) for _ in range(9)]
    return sum(rested) / len(rested), round(sum(mixed) / len(mixed), 3)


async def _role(session: ClientSession) -> bool:
    read = session.read(READ_YOUR_WRITES)
    async with read as reading:
        await reading.fetch_one(_QUERY, ("share",))
    return read.role is ServerRole.REPLICA


def _shown(subject: str, unit: str, value: float) -> LimitFigure:
    return LimitFigure(_NAME, subject, unit, round(value, 2), "at_most", None)
