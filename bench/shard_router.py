"""A routed single-shard query beside bare psycopg and SQLAlchemy Core; scatter beside one shard.

Four databases of one server stand for four shards: what is measured is the client, CPU of this
process a query, and the same server answers every subject. Eight callers look up one row each by
its primary key and compare it. Bare psycopg knows the right server beforehand and holds one
connection a caller; its pool is shown as well. Every subject prepares; nobody makes spans.

Scatter and gather is about waiting, so its shards wait: each sleeps its own time (5, 10, 15 and
40 ms) before it answers its share of an ordered top ten. The gate is wall time over the slowest
shard asked alone by the same pool.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import psycopg_pool
import uvloop
from psycopg import AsyncConnection
from sqlalchemy import bindparam, column, select, table
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from month2_databases.sharding import (
    FastSettings,
    HashPlacement,
    Ordered,
    ShardedDatabase,
    even,
)
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.hashing import slot_for_key
from scalelab.lab.course.bench import AnyFigure, Figure, LimitFigure, Options
from scalelab.lab.course.ratio import Sense, compare, is_void
from scalelab.lab.course.rounds import Measure, cpu_us_per_operation, paired
from scalelab.lab.servers import Postgres

MONTH = "month2"
_SHARDS = tuple(f"shard-{number}" for number in range(4))
_SLEEPS_S = dict(zip(_SHARDS, (0.005, 0.010, 0.015, 0.040), strict=True))
_CALLERS = 8
_BATCH = 64
_ROUND_S = 0.5
_KEYS = tuple(f"user-{number}" for number in range(1024))
_QUERY = "SELECT v FROM kv WHERE k = %s"
_ROUTED = "routed query"

Look = Callable[[int, str], Awaitable[object]]
"""(caller, key) -> the value."""


def run(options: Options) -> list[AnyFigure]:
    """All figures; takes about two minutes."""
    servers = _fill(options)
    stack = AsyncExitStack()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            bed = runner.run(_open(servers, stack))
            figures: list[AnyFigure] = [*_single(options, runner, bed)]
            figures.append(_flat(options, runner, servers, stack))
            return [*figures, *_scattered(options, runner, bed.database)]
        finally:
            runner.run(stack.aclose())


def _fill(options: Options) -> dict[str, str]:
    """Four databases, each with the rows of its keys."""
    server = Postgres("bench-shards", settings={"fsync": "off", "max_connections": "500"})
    options.runtime.start(server)
    placement = HashPlacement(even(_SHARDS))
    servers: dict[str, str] = {}
    for shard in _SHARDS:
        servers[shard] = server.ensure_database(shard.replace("-", "_"), "bench")
        mine = [(key, n) for n, key in enumerate(_KEYS) if placement.shard_of(key) == shard]
        with psycopg.connect(servers[shard], autocommit=True) as conn:
            conn.execute("CREATE TABLE kv (k text PRIMARY KEY, v bigint NOT NULL)")
            conn.cursor().executemany("INSERT INTO kv VALUES (%s, %s)", mine)
            conn.execute("CREATE TABLE me AS SELECT %s::float8 AS sleep_s", (_SLEEPS_S[shard],))
            conn.execute("VACUUM ANALYZE kv")
    return servers


class _Bed:
    """Ours and every peer, connected."""

    def __init__(self, servers: dict[str, str]) -> None:
        self.home = HashPlacement(even(_SHARDS)).shard_of
        # What a caller who was born knowing the right server would use: no hash is charged to it.
        self.known = {key: self.home(key) for key in _KEYS}
        self.database = ShardedDatabase(
            HashPlacement(even(_SHARDS)), servers, settings=FastSettings(size=_CALLERS)
        )
        self.bare: dict[tuple[int, str], AsyncConnection[Any]] = {}
        self.pools = {
            name: psycopg_pool.AsyncConnectionPool(
                dsn,
                min_size=_CALLERS,
                max_size=_CALLERS,
                kwargs={"autocommit": True, "prepare_threshold": 0},
                open=False,
            )
            for name, dsn in servers.items()
        }
        self.clients = {
            name: Database(PostgresSettings(dsn, pool_max=_CALLERS), name=name)
            for name, dsn in servers.items()
        }
        self.engines = {name: _engine(dsn) for name, dsn in servers.items()}
        self.autocommit = {
            name: engine.execution_options(isolation_level="AUTOCOMMIT")
            for name, engine in self.engines.items()
        }

    async def ours(self, _caller: int, key: str) -> object:
        """Through the placement and the fast path."""
        return (await self.database.fetch(_QUERY, (key,), key=key))[0][0]

    async def bare_psycopg(self, caller: int, key: str) -> object:
        """One connection a caller and server, and the right one is known."""
        cursor = await self.bare[caller, self.known[key]].execute(_QUERY, (key,))
        return (await cursor.fetchall())[0][0]

    async def pooled(self, _caller: int, key: str) -> object:
        """psycopg's own pool."""
        async with self.pools[self.known[key]].connection() as conn:
            cursor = await conn.execute(_QUERY, (key,))
            return (await cursor.fetchall())[0][0]

    async def session(self, _caller: int, key: str) -> object:
        """The core's client, which the router's sessions borrow from."""
        async with self.clients[self.known[key]].autocommit(read_only=True) as conn:
            cursor = await conn.execute(_QUERY, (key,))
            return (await cursor.fetchall())[0][0]

    def core(self, engines: dict[str, AsyncEngine]) -> Look:
        """SQLAlchemy Core, an engine a shard, the statement built once."""
        kv = table("kv", column("k"), column("v"))
        statement = select(kv.c.v).where(kv.c.k == bindparam("k"))

        async def look(_caller: int, key: str) -> object:
            async with engines[self.known[key]].connect() as conn:
                return (await conn.execute(statement, {"k": key})).all()[0][0]

        return look


async def _open(servers: dict[str, str], stack: AsyncExitStack) -> _Bed:
    bed = _Bed(servers)
    await stack.enter_async_context(bed.database)
    for name, dsn in servers.items():
        for caller in range(_CALLERS):
            conn = await AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=0)
            bed.bare[caller, name] = conn
            stack.push_async_callback(conn.close)
        await bed.pools[name].open(wait=True)
        stack.push_async_callback(bed.pools[name].close)
        await stack.enter_async_context(bed.clients[name])
        stack.push_async_callback(bed.engines[name].dispose)
    return bed


def _engine(dsn: str) -> AsyncEngine:
    return create_async_engine(
        dsn.replace("postgresql:", "postgresql+psycopg:"),
        pool_size=_CALLERS,
        connect_args={"prepare_threshold": 0},
    )


def _single(options: Options, runner: asyncio.Runner, bed: _Bed) -> list[Figure]:
    ours = _measure(runner, bed.ours)
    peers = {
        "bare psycopg, one connection a caller": (_measure(runner, bed.bare_psycopg), 1.10),
        "psycopg_pool": (_measure(runner, bed.pooled), 1.10),
    }
    slower = {
        "SQLAlchemy Core": (_measure(runner, bed.core(bed.engines)), 3.0),
        "SQLAlchemy Core, AUTOCOMMIT": (_measure(runner, bed.core(bed.autocommit)), 2.2),
        "the router's read session's client": (_measure(runner, bed.session), 1.0),
    }
    control = _compared(options, "ours, twice", "ours", ours, ours, "at_most", 0.0)
    if is_void(control.ratio):
        options.note(f"the control is off: {control.ratio.ratio:.3f}; too busy a machine")
    found = [
        _compared(options, _ROUTED, peer, ours, measure, "at_most", gate)
        for peer, (measure, gate) in peers.items()
    ]
    return found + [
        _compared(options, _ROUTED, peer, measure, ours, "at_least", gate)
        for peer, (measure, gate) in slower.items()
    ]


def _flat(
    options: Options, runner: asyncio.Runner, servers: dict[str, str], stack: AsyncExitStack
) -> Figure:
    """The same keys of the same server, once as 16 of 64 shards and once as the only shard."""
    names = [f"part-{number}" for number in range(64)]
    there = {name: servers[_SHARDS[n * 4 // 64]] for n, name in enumerate(names)}
    mine = tuple(key for key in _KEYS if slot_for_key(key) < 64)

    async def opened(shards: list[str]) -> ShardedDatabase:
        dsns = {name: there[name] for name in shards}
        return await stack.enter_async_context(ShardedDatabase(HashPlacement(even(shards)), dsns))

    def subject(database: ShardedDatabase) -> Measure:
        async def look(_caller: int, key: str) -> object:
            return (await database.fetch(_QUERY, (key,), key=key))[0][0]

        return _measure(runner, look, mine)

    many, one = runner.run(opened(names)), runner.run(opened(names[:1]))
    what = f"{_ROUTED}, 64 shards"
    return _compared(
        options, what, "1 shard", subject(many), subject(one), "at_most", 1.25, round_s=2 * _ROUND_S
    )


def _scattered(
    options: Options, runner: asyncio.Runner, database: ShardedDatabase
) -> list[AnyFigure]:
    statement = (
        "SELECT k, v FROM (SELECT pg_sleep(sleep_s) FROM me) AS slept, kv ORDER BY v DESC LIMIT 10"
    )
    merge = Ordered((1,), 10, descending=True)
    expected = [(key, n) for n, key in enumerate(_KEYS)][:-11:-1]
    slowest = max(_SLEEPS_S, key=lambda name: _SLEEPS_S[name])

    def asking(shards: tuple[str, ...]) -> Measure:
        async def once() -> float:
            begun_s = time.perf_counter()
            answer = await database.scatter(statement, merge=merge, deadline_s=10.0, shards=shards)
            took_s = time.perf_counter() - begun_s
            if shards == _SHARDS and answer.rows != expected:
                raise RuntimeError(f"the merge gave {answer.rows}")
            return took_s

        def measure(seconds: float) -> float:
            took: list[float] = []
            while sum(took) < seconds:
                took.append(runner.run(once()))
            return sorted(took)[len(took) // 2] * 1e3

        return measure

    options.note("in turns: scatter over 4 shards, the slowest alone")
    rounds = paired(
        asking(_SHARDS), asking((slowest,)), rounds=options.rounds, round_s=2 * _ROUND_S
    )
    ratio = compare(rounds, options.generator)
    what = "scatter, ordered merge, 4 shards"
    return [
        Figure("shard-router", what, "slowest shard alone", "wall ms", ratio, "at_most", 1.2),
        LimitFigure("shard-router", what, "wall ms, median", rounds[-1].a, "at_most", None),
    ]


def _compared(
    options: Options,
    what: str,
    peer: str,
    a: Measure,
    b: Measure,
    sense: Sense,
    gate: float,
    *,
    round_s: float = _ROUND_S,
) -> Figure:
    """a / b. `at_most`: a is ours; `at_least`: b is."""
    options.note(f"in turns: {what}, {peer}")
    rounds = paired(a, b, rounds=options.rounds, round_s=round_s)
    unit = f"CPU µs/query, {'ours / peer' if sense == 'at_most' else 'peer / ours'}"
    ratio = compare(rounds, options.generator)
    return Figure("shard-router", what, peer, unit, ratio, sense, gate)


def _measure(runner: asyncio.Runner, look: Look, keys: tuple[str, ...] = _KEYS) -> Measure:
    """CPU of this process a query, over eight callers at once; every value is compared."""
    expected = {key: n for n, key in enumerate(_KEYS)}

    async def caller(number: int) -> None:
        for turn in range(_BATCH):
            key = keys[(number * 131 + turn * 7) % len(keys)]
            if await look(number, key) != expected[key]:
                raise RuntimeError(f"a wrong value for {key}")

    async def crowd() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(_CALLERS):
                group.create_task(caller(number))

    return cpu_us_per_operation(
        lambda count: runner.run(_times(crowd, count // (_CALLERS * _BATCH))),
        batch=_CALLERS * _BATCH,
    )


async def _times(work: Callable[[], Awaitable[None]], count: int) -> None:
    for _ in range(count):
        await work()
