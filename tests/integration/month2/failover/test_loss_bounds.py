"""What a failover may lose, and what it may not: acknowledged writes against what is there."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from random import Random
from typing import Any

import psycopg
import pytest

from month2_databases.failover import (
    Attempt,
    FailoverPolicy,
    LeaderDatabase,
    Outcome,
    PatroniDirectory,
    beyond,
    judge,
)
from scalelab.clients.postgres import PostgresSettings
from scalelab.clock import SystemClock
from scalelab.errors import OutcomeUnknown, ScalelabError

pytestmark = pytest.mark.timeout(300)
Count = Callable[..., int]


def keys(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def test_an_asynchronous_failover_loses_what_had_not_left_the_primary_and_nothing_else(
    bed: Any,
) -> None:
    """Acknowledged, not yet sent, machine gone: exactly these are lost; all lie behind the fork.

    The old primary comes back by pg_rewind, and its own version of the past is gone.
    """
    old = bed.cluster.leader()
    written = bed.write(old, keys("sent", 20))
    _await_sent(old, written[-1].lsn)
    old.hold_replication()
    written += bed.write(old, keys("held", 7))
    bed.runtime.kill(old.name)
    new = bed.fail_over(old)

    verdict = judge(written, bed.found(new))
    assert verdict.lost == tuple(keys("held", 7))
    assert verdict.ghosts + verdict.duplicates + verdict.strangers == ()
    bed.cluster.repair(bed.runtime)  # pg_rewind, then streaming: the fork is in the history by now
    fork = bed.cluster.last_fork()
    assert fork is not None
    assert beyond(written, fork) == verdict.lost
    assert sorted(bed.found(old)) == sorted(verdict.kept)


async def test_a_synchronous_failover_loses_nothing_acknowledged(bed: Any, count: Count) -> None:
    """The primary's machine is killed under load; what could not be replicated is not acknowledged.

    An unknown outcome is settled by asking again with the same key.
    """
    cluster = bed.cluster
    await asyncio.to_thread(cluster.configure, synchronous_mode=True)
    for kill in range(count(20, share=0.05)):
        attempts = await _write_through_a_kill(bed, f"k{kill}-")
        await asyncio.to_thread(cluster.repair, bed.runtime)
        await asyncio.to_thread(cluster.await_mode, synchronous=True)
        leader = await asyncio.to_thread(cluster.leader)
        found = [key for key in bed.found(leader) if key.startswith(f"k{kill}-")]
        verdict = judge(attempts, found)
        assert verdict.is_clean, verdict
        assert len(verdict.kept) >= 100


def test_a_commit_that_waits_for_its_replica_is_cut_off_as_unknown_and_was_not_acknowledged(
    bed: Any,
) -> None:
    """Replication held, machine killed: the client's last word is that it does not know."""
    bed.cluster.configure(synchronous_mode=True)
    old = bed.cluster.leader()
    written = bed.write(old, keys("sent", 5))
    old.hold_replication()
    ended: list[BaseException] = []

    def commit() -> None:
        try:
            bed.write(old, ["waiting"])
        except psycopg.OperationalError as error:
            ended.append(error)

    waiting = threading.Thread(target=commit)
    waiting.start()
    _await_waiting(old)
    bed.runtime.kill(old.name)
    waiting.join(30)
    assert len(ended) == 1
    new = bed.fail_over(old)
    verdict = judge([*written, Attempt("waiting", Outcome.UNKNOWN)], bed.found(new))
    assert verdict.is_clean
    assert verdict.unknown_gone == ("waiting",)


def test_a_replica_too_far_behind_is_not_promoted_and_the_old_primary_returns_with_everything(
    bed: Any,
) -> None:
    """maximum_lag_on_failover: availability is given up rather than that much data."""
    cluster = bed.cluster
    cluster.configure(maximum_lag_on_failover=4096)
    old = cluster.leader()
    old.hold_replication()
    written = bed.write(old, [f"{'x' * 200}{number}" for number in range(200)])
    _await_position(bed, written[-1].lsn)
    bed.runtime.kill(old.name)
    cluster.expire_lease()
    _await_refusals(bed, old)
    assert cluster.holder() is None
    cluster.repair(bed.runtime)
    assert cluster.leader().name == old.name
    assert judge(written, bed.found(old)).is_clean


async def _write_through_a_kill(bed: Any, prefix: str) -> list[Attempt]:
    """Write one key after the other; the leader's machine dies on the way."""
    old = await asyncio.to_thread(bed.cluster.leader)
    settings = PostgresSettings("", pool_max=2, transaction_timeout_s=10.0)
    attempts: list[Attempt] = []
    failing: asyncio.Task[None] | None = None
    async with (
        PatroniDirectory(bed.directory(), deadline_s=5.0) as directory,
        LeaderDatabase(
            directory,
            bed.dsns(),
            clock=SystemClock(),
            random=Random(1),
            policy=FailoverPolicy(give_up_after_s=90.0),
            settings=settings,
        ) as database,
    ):
        for number in range(200):
            if number == 100:
                failing = asyncio.create_task(asyncio.to_thread(_kill_and_expire, bed, old))
            key = f"{prefix}{number}"
            attempts.append(await _attempt(database, key))
            if failing is not None and failing.done() and number >= 150:
                break
    assert failing is not None
    await failing
    return attempts


def _kill_and_expire(bed: Any, old: Any) -> None:
    bed.runtime.kill(old.name)
    bed.cluster.expire_lease()


async def _attempt(database: LeaderDatabase, key: str) -> Attempt:
    async def insert(conn: psycopg.AsyncConnection) -> None:
        await conn.execute(
            "INSERT INTO entry SELECT %(key)s WHERE NOT EXISTS"
            " (SELECT FROM entry WHERE key = %(key)s)",
            {"key": key},
        )

    try:
        done = await database.run(insert, idempotent=True)
    except OutcomeUnknown:
        return Attempt(key, Outcome.UNKNOWN)
    except ScalelabError:
        return Attempt(key, Outcome.REFUSED)
    return Attempt(key, Outcome.ACKNOWLEDGED, lsn=done.lsn)


def _until(claim: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not claim():
        if time.monotonic() > deadline_s:
            pytest.fail(f"not within {within_s} s: {what}")
        time.sleep(0.05)


def _ask(node: Any, query: str) -> Any:
    with psycopg.connect(node.dsn(), autocommit=True, connect_timeout=10) as conn:
        row = conn.execute(query.encode()).fetchone()
    return row[0] if row else None


def _await_sent(node: Any, lsn: int) -> None:
    """Until both replicas have written the log up to `lsn`."""
    query = f"SELECT count(*) FROM pg_stat_replication WHERE flush_lsn - '0/0'::pg_lsn >= {lsn}"
    _until(lambda: _ask(node, query) == 2, "both replicas have it")


def _await_waiting(node: Any) -> None:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    _until(lambda: _ask(node, query) == 1, "a commit waits for its replica")


def _await_position(bed: Any, lsn: int) -> None:
    """Until the leader has told etcd that its log reaches `lsn`."""

    def told() -> bool:
        found = bed.cluster.gateway.get(f"/service/{bed.cluster.name}/status")
        return found is not None and int(json.loads(found[0])["optime"]) >= lsn

    _until(told, "etcd knows the position")


def _await_refusals(bed: Any, old: Any) -> None:
    """Until both replicas have looked at themselves and declined, after the lease ended."""
    others = [node for node in bed.cluster.nodes if node is not old]
    marks = {
        node.name: node.log.read_text().count("exceeds maximum replication lag") for node in others
    }
    _until(
        lambda: all(
            node.log.read_text().count("exceeds maximum replication lag") > marks[node.name]
            for node in others
        ),
        "both replicas decline to lead",
    )
