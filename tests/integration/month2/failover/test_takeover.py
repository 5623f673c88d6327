"""Who takes over, when nobody should, and what an old primary may still say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import psycopg
import pytest

from month2_databases.failover import (
    Attempt,
    FailoverPolicy,
    LeaderChanged,
    LeaderDatabase,
    Outcome,
    PatroniDirectory,
    any_primary,
    judge,
)
from scalelab.clients.postgres import PostgresSettings
from scalelab.clock import ManualClock
from scalelab.errors import OutcomeUnknown

pytestmark = pytest.mark.timeout(300)


def until(claim: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not claim():
        if time.monotonic() > deadline_s:
            pytest.fail(f"not within {within_s} s: {what}")
        time.sleep(0.05)


@asynccontextmanager
async def client(
    bed: Any, clock: ManualClock, told: list[LeaderChanged]
) -> AsyncIterator[LeaderDatabase]:
    """A client whose time stands still: it never gives up and asks nobody again by itself."""
    async with (
        PatroniDirectory(bed.directory(), deadline_s=5.0) as directory,
        LeaderDatabase(
            directory,
            bed.dsns(),
            clock=clock,
            random=Random(1),
            policy=FailoverPolicy(give_up_after_s=60.0, confirm_every_s=1.0),
            settings=PostgresSettings("", transaction_timeout_s=10.0),
            hook=told.append,
        ) as database,
    ):
        yield database


def insert(key: str) -> Any:
    async def work(conn: psycopg.AsyncConnection) -> None:
        await conn.execute("INSERT INTO entry VALUES (%s)", (key,))

    return work


def test_a_killed_postgres_comes_back_with_everything(bed: Any) -> None:
    """Patroni is alive: it starts PostgreSQL again where it was."""
    leader = bed.cluster.leader()
    written = bed.write(leader, [f"k{number}" for number in range(20)])
    before = leader.postmaster()
    leader.kill_postgres()
    until(lambda: leader.postmaster() not in (None, before), "another PostgreSQL")
    bed.cluster.repair(bed.runtime)
    again = bed.cluster.leader()
    assert judge(written, bed.found(again)).is_clean


async def test_a_client_finds_the_new_leader_and_never_goes_below_its_timeline(bed: Any) -> None:
    """Its machine killed, the next write goes to the promoted node; the fence is its timeline."""
    clock, told = ManualClock(), list[LeaderChanged]()
    old = await asyncio.to_thread(bed.cluster.leader)
    async with client(bed, clock, told) as database:
        first = await database.run(insert("before"))
        await asyncio.to_thread(bed.runtime.kill, old.name)
        new = await asyncio.to_thread(bed.fail_over, old)
        second = await database.run(insert("after"), idempotent=True)
    assert (first.node, second.node) == (old.name, new.name)
    assert second.timeline > first.timeline
    assert database.fence == second.timeline
    assert [change.node for change in told] == [old.name, new.name]


async def test_a_postgres_whose_patroni_died_takes_writes_until_the_client_asks(bed: Any) -> None:
    """The split brain that a connection cannot show, and how far each client falls for it.

    libpq's own search takes the old primary as well as the new one; ours leaves it as soon as it
    is not confirmed. What the old one acknowledged after the promotion is not in the new one.
    """
    clock, told = ManualClock(), list[LeaderChanged]()
    old = await asyncio.to_thread(bed.cluster.leader)
    async with client(bed, clock, told) as database:
        await database.run(insert("before"))
        await asyncio.to_thread(old.kill_patroni)
        new = await asyncio.to_thread(bed.fail_over, old)
        believed = await database.run(insert("believed"))
        clock.advance(1.0)
        confirmed = await database.run(insert("confirmed"))
    assert (believed.node, confirmed.node) == (old.name, new.name)
    hosts = [("127.0.0.1", node.port) for node in (old, new)]
    word = old.place.secret(f"{bed.cluster.name}.shop")
    dsn = any_primary(hosts, database="shop", role="shop", password=word)
    with psycopg.connect(dsn) as conn:
        assert conn.info.port == old.port
    written = [Attempt(key, Outcome.ACKNOWLEDGED) for key in ("before", "believed", "confirmed")]
    assert judge(written, bed.found(new)).lost == ("believed",)
    await asyncio.to_thread(bed.runtime.stop, old.name)  # its PostgreSQL too


async def test_in_synchronous_mode_the_same_old_primary_acknowledges_nothing(bed: Any) -> None:
    """Its replica listens to the new primary now, so its commits wait for ever."""
    clock, told = ManualClock(), list[LeaderChanged]()
    await asyncio.to_thread(bed.cluster.configure, synchronous_mode=True)
    old = await asyncio.to_thread(bed.cluster.leader)
    async with client(bed, clock, told) as database:
        await database.run(insert("before"))
        await asyncio.to_thread(old.kill_patroni)
        new = await asyncio.to_thread(bed.fail_over, old)
        with pytest.raises(OutcomeUnknown):
            await database.run(insert("believed"))
        await database.run(insert("after"))
    found = await asyncio.to_thread(bed.found, new)
    assert sorted(found) == ["after", "before"]
    await asyncio.to_thread(bed.runtime.stop, old.name)


def test_a_frozen_primary_that_wakes_up_is_made_a_replica_of_the_new_one(bed: Any) -> None:
    """Frozen with an open transaction; promoted elsewhere; woken: the commit is not there.

    Synchronous mode: whatever the woken server does before its Patroni stops it is acknowledged
    by nobody.
    """
    bed.cluster.configure(synchronous_mode=True)
    old = bed.cluster.leader()
    written = bed.write(old, ["before"])
    with psycopg.connect(old.dsn("shop", "shop"), connect_timeout=10) as conn:
        conn.execute("INSERT INTO entry VALUES ('frozen')")
        bed.runtime.pause(old.name)
        new = bed.fail_over(old)
        written += bed.write(new, ["after"])
        bed.runtime.resume(old.name)
        with pytest.raises(psycopg.OperationalError):
            conn.commit()
    bed.cluster.repair(bed.runtime)
    assert bed.cluster.leader().name == new.name
    written.append(Attempt("frozen", Outcome.UNKNOWN))
    verdict = judge(written, bed.found(new))
    assert verdict.is_clean
    assert verdict.unknown_gone == ("frozen",)

    def agrees() -> bool:
        try:
            return sorted(bed.found(old)) == sorted(bed.found(new))
        except psycopg.OperationalError:  # it is rewound and started again
            return False

    until(agrees, "the woken server has what the new primary has")
    assert old.role_changes()[-1].endswith("replica")


def test_without_etcd_the_leader_steps_down_and_comes_back_with_it(bed: Any) -> None:
    """Nobody can say who leads, so nobody does: availability is what is given up."""
    leader = bed.cluster.leader()
    written = bed.write(leader, ["before"])
    bed.runtime.stop(bed.cluster.etcd.name)

    def refuses() -> bool:
        key = f"later-{len(written)}"
        try:
            written.extend(bed.write(leader, [key]))  # not yet
        except psycopg.errors.ReadOnlySqlTransaction:
            written.append(Attempt(key, Outcome.REFUSED))
            return True
        except psycopg.OperationalError:  # it restarts as a replica
            written.append(Attempt(key, Outcome.UNKNOWN))
        return False

    until(refuses, "it refuses writes")
    bed.cluster.repair(bed.runtime)
    assert judge(written, bed.found(bed.cluster.leader())).is_clean
