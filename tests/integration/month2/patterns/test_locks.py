"""Hope or hold: versions, row locks, waits that end, and claims that skip."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from month2_databases.patterns import (
    JOB_TABLE,
    STOCK_TABLE,
    Stock,
    claim,
    finish,
    lock,
    read,
    write,
)
from scalelab.clients.postgres import Database
from scalelab.clients.postgres_errors import SerializationFailure
from scalelab.errors import Conflict, InvalidInput, NotFound


@pytest.fixture(autouse=True)
async def stock(database: Database) -> None:
    """Ten of tea, ten cups, and no jobs."""
    async with database.transaction() as conn:
        await conn.execute(STOCK_TABLE + ";" + JOB_TABLE, prepare=False)
        await conn.execute("INSERT INTO stock VALUES ('tea', 10), ('cup', 10)")


async def test_who_writes_what_has_changed_meanwhile_changes_nothing(database: Database) -> None:
    """L1: two read version 1; the first writes, the second is told."""
    async with database.autocommit() as conn:
        mine, theirs = await read(conn, "tea"), await read(conn, "tea")
        assert await write(conn, mine, 9) == Stock("tea", 9, 2)
        with pytest.raises(Conflict) as refusal:
            await write(conn, theirs, 8)
        assert refusal.value.stable_code == "version_conflict"
        assert await read(conn, "tea") == Stock("tea", 9, 2)


async def test_a_version_that_returns_to_its_old_value_is_another_one(database: Database) -> None:
    """L1: ten, nine and ten again is not unchanged."""
    async with database.autocommit() as conn:
        seen = await read(conn, "tea")
        await write(conn, await write(conn, seen, 9), 10)
        with pytest.raises(Conflict):
            await write(conn, seen, 5)


async def test_a_row_that_is_gone_is_no_success(database: Database) -> None:
    """L1: an UPDATE of no row raises nothing by itself."""
    async with database.autocommit() as conn:
        seen = await read(conn, "tea")
        await conn.execute("DELETE FROM stock WHERE sku = 'tea'")
        with pytest.raises(Conflict):
            await write(conn, seen, 5)
        with pytest.raises(NotFound):
            await read(conn, "tea")


async def test_a_lock_shows_the_row_as_the_one_before_left_it(database: Database) -> None:
    """Six take one each, reading under the lock: four are left, and nobody began again."""

    async def take() -> None:
        async with database.transaction() as conn:
            held = await lock(conn, ["tea"], wait_s=60.0)
            await write(conn, held["tea"], held["tea"].on_hand - 1)

    await asyncio.gather(*(take() for _ in range(6)))
    async with database.autocommit() as conn:
        assert await read(conn, "tea") == Stock("tea", 4, 7)


async def _empty_cups_then_lock_tea(database: Database) -> None:
    async with database.transaction() as conn:
        await conn.execute("UPDATE stock SET on_hand = 0 WHERE sku = 'cup'")
        await lock(conn, ["tea"], wait_s=0.05)


async def test_a_wait_that_is_too_long_ends_and_changes_nothing(
    database: Database, database_dsn: str
) -> None:
    """L3."""
    async with await psycopg.AsyncConnection.connect(database_dsn) as holder:
        await holder.execute("SELECT 1 FROM stock WHERE sku = 'tea' FOR UPDATE")
        with pytest.raises(SerializationFailure) as refusal:
            await _empty_cups_then_lock_tea(database)
        assert refusal.value.stable_code == "lock_timeout"
    async with database.autocommit() as conn:
        assert (await read(conn, "cup")).on_hand == 10


async def test_rows_are_locked_in_one_order_whatever_order_they_are_named_in(
    database: Database, database_dsn: str
) -> None:
    """L2: `cup` is held elsewhere, so who wants both has not taken `tea` yet."""
    async with await psycopg.AsyncConnection.connect(database_dsn) as holder:
        await holder.execute("SELECT 1 FROM stock WHERE sku = 'cup' FOR UPDATE")
        async with asyncio.timeout(60), database.transaction() as conn:
            pid = conn.info.backend_pid
            waiting = asyncio.create_task(lock(conn, ["tea", "cup"], wait_s=60.0))
            cursor = await holder.execute("SELECT 0")
            while await cursor.fetchone() != (1,):
                cursor = await holder.execute("SELECT cardinality(pg_blocking_pids(%s))", (pid,))
            free = await holder.execute("SELECT sku FROM stock FOR UPDATE SKIP LOCKED")
            assert sorted(await free.fetchall()) == [("cup",), ("tea",)]
            await holder.commit()
            assert set(await waiting) == {"cup", "tea"}


@pytest.mark.parametrize("wait_s", [0.0, -1.0])
async def test_a_wait_without_end_is_refused(database: Database, wait_s: float) -> None:
    """The server reads 0 as no limit."""
    async with database.transaction() as conn:
        with pytest.raises(InvalidInput):
            await lock(conn, ["tea"], wait_s=wait_s)


async def test_a_missing_row_is_named(database: Database) -> None:
    """Nothing to lock is not the same as nothing to wait for."""
    with pytest.raises(NotFound, match="pot"):
        async with database.transaction() as conn:
            await lock(conn, ["tea", "pot"], wait_s=30.0)


async def _put(database: Database, count: int) -> None:
    async with database.autocommit() as conn:
        await conn.execute(
            "INSERT INTO job (payload) SELECT 'job ' || n FROM generate_series(1, %s) AS n",
            (count,),
        )


async def test_workers_hold_different_jobs_and_nobody_waits(database: Database) -> None:
    """C1: three at once, two jobs: two hold one each, the third holds none."""
    await _put(database, 2)
    async with (
        asyncio.timeout(60),
        database.transaction() as one,
        database.transaction() as two,
        database.transaction() as three,
    ):
        held = [await claim(conn) for conn in (one, two, three)]
        assert [[job.payload for job in jobs] for jobs in held] == [["job 1"], ["job 2"], []]
        await finish(one, held[0])
    async with database.transaction() as conn:
        assert [job.payload for job in await claim(conn, most=9)] == ["job 2"]


async def test_a_worker_that_dies_leaves_its_jobs_to_the_next(
    database: Database, database_dsn: str
) -> None:
    """C2: its backend is ended in the middle; no clock has to run out."""
    await _put(database, 1)
    dying = await psycopg.AsyncConnection.connect(database_dsn)
    assert len(await claim(dying)) == 1
    async with database.transaction() as conn:
        assert await claim(conn) == []
        await conn.execute("SELECT pg_terminate_backend(%s, 30000)", (dying.info.backend_pid,))
    await dying.close()
    async with database.transaction() as conn:
        assert len(await claim(conn)) == 1


async def test_jobs_are_done_once_however_many_work(database: Database) -> None:
    """C1: four workers, thirty jobs, in claims of three."""
    await _put(database, 30)
    done: list[int] = []

    async def work() -> None:
        while True:
            async with database.transaction() as conn:
                jobs = await claim(conn, most=3)
                await finish(conn, jobs)
            if not jobs:
                return
            done.extend(job.id for job in jobs)

    await asyncio.gather(*(work() for _ in range(4)))
    assert sorted(done) == list(range(1, 31))
