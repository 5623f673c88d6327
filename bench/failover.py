"""Failover under load: acknowledged writes that were lost, and how long nobody could write.

Three Patroni nodes with their real lease (ttl 20 s, loop 2 s, retry 5 s), commits that wait for a
replica, and writers that look for the leader again. PostgreSQL is killed under a living Patroni;
then whole nodes, Patroni with them. Lost writes are a limit (0); seconds are one where the machine
has cores for three nodes, etcd and the writers.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

import psycopg
from psycopg import AsyncConnection

from month2_databases.failover import (
    Attempt,
    FailoverPolicy,
    LeaderDatabase,
    Outcome,
    PatroniDirectory,
    Verdict,
    judge,
)
from scalelab.clients.postgres import PostgresSettings
from scalelab.clock import SystemClock
from scalelab.errors import OutcomeUnknown, ScalelabError
from scalelab.lab.course.bench import AnyFigure, LimitFigure, Options
from scalelab.lab.servers import PatroniCluster, PatroniNode, PatroniSettings

MONTH = "month2"
_WRITERS = 4
_KILLS, _ALL_KILLS = 2, 20
_WITHIN_S = 240.0
_CORES_TO_JUDGE_TIME = 3
_LIMIT_S = {"PostgreSQL killed": 15.0, "node killed": 30.0}


@dataclass(slots=True)
class Seen:
    """recovered_s: from each kill to the first write that was acknowledged after it."""

    recovered_s: list[float]
    verdict: Verdict


def run(options: Options) -> list[AnyFigure]:
    """All figures; two kills of each kind in 2 minutes. SCALELAB_FAILOVER_FULL=1 kills 20 each."""
    # The pool tells of every connection it cannot have, which here is what is wanted.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    kills = _ALL_KILLS if os.environ.get("SCALELAB_FAILOVER_FULL") == "1" else _KILLS
    settings = PatroniSettings(ttl_s=20, loop_wait_s=2, retry_timeout_s=5, synchronous=True)
    cluster = PatroniCluster("failover", settings=settings)
    cluster.start(options.runtime)
    cluster.ensure_database("shop", "shop")
    cluster.await_mode(synchronous=True)
    ways: dict[str, Callable[[PatroniNode], None]] = {
        "PostgreSQL killed": PatroniNode.kill_postgres,
        "node killed": lambda node: options.runtime.kill(node.name),
    }
    figures: list[AnyFigure] = []
    for name, kill in ways.items():
        seen = asyncio.run(_killed(options, cluster, name, kill, kills))
        figures += _figures(name, seen, kills)
    return figures


async def _killed(
    options: Options,
    cluster: PatroniCluster,
    name: str,
    kill: Callable[[PatroniNode], None],
    kills: int,
) -> Seen:
    """Kill so often while writers write; the rows at the end against what they were told."""
    with psycopg.connect(cluster.leader().dsn("shop", "shop"), autocommit=True) as conn:
        conn.execute("DROP TABLE IF EXISTS entry")
        conn.execute("CREATE TABLE entry (key text)")
    recovered_s: list[float] = []
    async with _writers(cluster) as writers:
        for number in range(kills):
            await writers.acknowledged_after(time.monotonic())
            leader = await asyncio.to_thread(cluster.leader)
            begun_s = time.monotonic()
            await asyncio.to_thread(kill, leader)
            first_s = await writers.acknowledged_after(time.monotonic())
            recovered_s.append(first_s - begun_s)
            options.note(f"{name}, {number + 1} of {kills}: {recovered_s[-1]:.1f} s")
            await asyncio.to_thread(cluster.repair, options.runtime)
            await asyncio.to_thread(cluster.await_mode, synchronous=True)
    with psycopg.connect(cluster.leader().dsn("shop", "shop")) as conn:
        found = [str(row[0]) for row in conn.execute("SELECT key FROM entry").fetchall()]
    return Seen(recovered_s, judge(writers.attempts, found))


class _Writers:
    """One write after the other, each under a key of its own, and what was said of it."""

    def __init__(self, database: LeaderDatabase) -> None:
        self._database = database
        self.attempts: list[Attempt] = []
        self._begun_s = self._ended_s = 0.0
        self._progress = asyncio.Event()

    async def write(self, writer: int) -> None:
        """Until it is cancelled: then the write under way is unknown."""
        number = 0
        while True:
            key = f"{writer}-{number}"
            number += 1

            async def insert(conn: AsyncConnection, key: str = key) -> None:
                await conn.execute("INSERT INTO entry VALUES (%s)", (key,))

            begun_s = time.monotonic()
            outcome = Outcome.UNKNOWN
            try:
                await self._database.run(insert)
                outcome = Outcome.ACKNOWLEDGED
            except OutcomeUnknown:
                pass
            except ScalelabError:
                outcome = Outcome.REFUSED
            finally:
                self.attempts.append(Attempt(key, outcome))
            if outcome is Outcome.ACKNOWLEDGED:
                self._begun_s, self._ended_s = begun_s, time.monotonic()
                self._progress.set()
            # One core's worth of writes would leave none for those who shall recover.
            await asyncio.sleep(max(0.01, time.monotonic() - begun_s))

    async def acknowledged_after(self, instant_s: float) -> float:
        """When the first write that was begun after an instant was acknowledged."""
        async with asyncio.timeout(_WITHIN_S):
            while self._begun_s <= instant_s:
                self._progress.clear()
                await self._progress.wait()
        return self._ended_s


@asynccontextmanager
async def _writers(cluster: PatroniCluster):
    directory = {node.name: node.rest_url for node in cluster.nodes}
    dsns = {node.name: node.dsn("shop", "shop") for node in cluster.nodes}
    async with (
        PatroniDirectory(directory, deadline_s=5.0) as patronis,
        LeaderDatabase(
            patronis,
            dsns,
            clock=SystemClock(),
            random=Random(1),
            policy=FailoverPolicy(give_up_after_s=_WITHIN_S),
            settings=PostgresSettings("", transaction_timeout_s=10.0),
        ) as database,
    ):
        writers = _Writers(database)
        tasks = [asyncio.create_task(writers.write(number)) for number in range(_WRITERS)]
        try:
            yield writers
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _figures(name: str, seen: Seen, kills: int) -> list[AnyFigure]:
    verdict = seen.verdict
    written = len(verdict.kept) + len(verdict.lost)
    judged = (os.cpu_count() or 1) >= _CORES_TO_JUDGE_TIME
    limit_s = _LIMIT_S[name] if judged else None
    of = f"{name}, {kills} times"
    return [
        LimitFigure(
            "failover",
            f"{of}: lost of {written} acknowledged writes",
            "writes",
            len(verdict.lost),
            "at_most",
            0,
        ),
        LimitFigure(
            "failover",
            f"{of}: refused writes that are there, or any twice",
            "writes",
            len(verdict.ghosts) + len(verdict.duplicates) + len(verdict.strangers),
            "at_most",
            0,
        ),
        LimitFigure(
            "failover",
            f"{of}: until a write is acknowledged, p95",
            "s",
            round(_p95(seen.recovered_s), 1),
            "at_most",
            limit_s,
        ),
    ]


def _p95(values: Sequence[float]) -> float:
    """By nearest rank: of few values the largest."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]
