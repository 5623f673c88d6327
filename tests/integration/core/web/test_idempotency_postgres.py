"""Idempotency records against a real PostgreSQL: races, crashes, other bodies, other users."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scalelab.errors import Conflict, IdempotencyMismatch
from scalelab.web.idempotency import Scope, StoredAnswer, fingerprint
from scalelab.web.idempotency_postgres import DDL, PURGE_BATCH, claim, find, purge, save

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SCOPE = Scope("user-1", "POST /orders", "key-1")
BODY = fingerprint(b'{"n":1}')
ANSWER = StoredAnswer(202, {"location": "/orders/7", "x": "\u00e9"}, b'{"order_id":"7"}\x00\xff')

Connection = psycopg.AsyncConnection[Any]


@asynccontextmanager
async def connection(dsn: str) -> AsyncGenerator[Connection, None]:
    async with await psycopg.AsyncConnection.connect(dsn) as conn:
        yield conn


@pytest.fixture
def shop_dsn(database_dsn: str) -> str:
    """A database with the record's table and one for effects."""
    with psycopg.connect(database_dsn) as conn:
        conn.execute(DDL)
        conn.execute("CREATE TABLE effect (id bigint GENERATED ALWAYS AS IDENTITY, who text)")
    return database_dsn


async def effects(dsn: str) -> int:
    async with connection(dsn) as conn:
        row = await (await conn.execute("SELECT count(*) FROM effect")).fetchone()
        assert row is not None
        return int(row[0])


async def handle(conn: Connection, scope: Scope, body: bytes = BODY, who: str = "") -> str:
    """What a service does with one request; says whether it had the effect or replayed."""
    async with conn.transaction():
        await claim(conn, scope)
        stored = await find(conn, scope, body)
        if stored is not None:
            assert stored == ANSWER
            return "replayed"
        await conn.execute("INSERT INTO effect (who) VALUES (%s)", (who,))
        await save(conn, scope, body, ANSWER, NOW)
        return "done"


async def test_racing_claims_have_one_effect(shop_dsn: str) -> None:
    """K1: 32 connections at once; one acts, the others are told to wait or get its answer."""
    start = asyncio.Event()

    async def one(number: int) -> str:
        async with connection(shop_dsn) as conn:
            await start.wait()
            try:
                return await handle(conn, SCOPE, who=str(number))
            except Conflict as error:
                return error.stable_code

    tasks = [asyncio.create_task(one(number)) for number in range(32)]
    start.set()
    outcomes = await asyncio.gather(*tasks)
    assert outcomes.count("done") == 1
    assert set(outcomes) <= {"done", "replayed", "idempotency_in_flight"}
    assert await effects(shop_dsn) == 1
    async with connection(shop_dsn) as conn:
        assert await handle(conn, SCOPE) == "replayed"


async def test_second_request_is_in_flight_until_the_first_has_ended(shop_dsn: str) -> None:
    """Deterministic: the lock is held to the end of the transaction, and not a moment longer."""
    async with connection(shop_dsn) as first, connection(shop_dsn) as second:
        async with first.transaction():
            await claim(first, SCOPE)
            assert await find(first, SCOPE, BODY) is None
            with pytest.raises(Conflict) as caught:
                await handle(second, SCOPE)
            assert caught.value.stable_code == "idempotency_in_flight"
            await save(first, SCOPE, BODY, ANSWER, NOW)
        assert await handle(second, SCOPE) == "replayed"


async def test_stored_answer_is_replayed_byte_for_byte(shop_dsn: str) -> None:
    """K2: status, headers and every octet of the body."""
    async with connection(shop_dsn) as conn:
        await handle(conn, SCOPE)
    async with connection(shop_dsn) as conn:
        assert await find(conn, SCOPE, BODY) == ANSWER


@pytest.mark.parametrize("point", ["claimed", "effect", "saved"])
async def test_failure_before_commit_leaves_nothing(shop_dsn: str, point: str) -> None:
    """K1: an exception at any point rolls effect and record back; the retry acts once."""

    def fail_at(reached: str) -> None:
        if reached == point:
            raise RuntimeError(point)

    async def failing(conn: Connection) -> None:
        async with conn.transaction():
            await claim(conn, SCOPE)
            fail_at("claimed")
            await conn.execute("INSERT INTO effect (who) VALUES ('x')")
            fail_at("effect")
            await save(conn, SCOPE, BODY, ANSWER, NOW)
            fail_at("saved")

    async with connection(shop_dsn) as conn:
        with pytest.raises(RuntimeError):
            await failing(conn)
        assert await handle(conn, SCOPE) == "done"
    assert await effects(shop_dsn) == 1


CRASH = """
    import asyncio, sys, psycopg
    from scalelab.web.idempotency import StoredAnswer
    from scalelab.web.idempotency_postgres import claim, save
    from tests.integration.core.web.test_idempotency_postgres import ANSWER, BODY, NOW, SCOPE

    async def main(dsn, point):
        async with await psycopg.AsyncConnection.connect(dsn) as conn:
            await claim(conn, SCOPE)
            if point != "claimed":
                await conn.execute("INSERT INTO effect (who) VALUES ('crash')")
            if point == "saved":
                await save(conn, SCOPE, BODY, ANSWER, NOW)
            print("there", flush=True)
            await asyncio.Event().wait()

    asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("point", ["claimed", "effect", "saved"])
async def test_killed_process_leaves_neither_lock_nor_half_a_record(
    shop_dsn: str, point: str
) -> None:
    """K1: SIGKILL at each point; the server frees the scope, and the retry acts exactly once."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(CRASH),
        shop_dsn,
        point,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"there\n"
    async with connection(shop_dsn) as conn:
        with pytest.raises(Conflict):
            await handle(conn, SCOPE)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        outcome = ""
        async with asyncio.timeout(20):
            while not outcome:
                try:
                    outcome = await handle(conn, SCOPE)
                except Conflict:  # the server has not yet noticed that its client is gone
                    await asyncio.sleep(0.01)
    assert outcome == "done"
    assert await effects(shop_dsn) == 1


async def test_other_body_under_the_same_key_is_refused(shop_dsn: str) -> None:
    """K3: and changes nothing, not even the stored answer."""
    async with connection(shop_dsn) as conn:
        await handle(conn, SCOPE)
        with pytest.raises(IdempotencyMismatch):
            await handle(conn, SCOPE, fingerprint(b'{"n":2}'))
        assert await handle(conn, SCOPE) == "replayed"
    assert await effects(shop_dsn) == 1


@pytest.mark.parametrize(
    "other",
    [
        Scope("user-2", SCOPE.route, SCOPE.key),
        Scope(SCOPE.user, "POST /refunds", SCOPE.key),
        Scope(SCOPE.user, SCOPE.route, "key-2"),
    ],
    ids=["user", "route", "key"],
)
async def test_other_scopes_are_separate_even_at_the_same_time(shop_dsn: str, other: Scope) -> None:
    """Nobody sees, blocks or reuses the key of another user or route."""
    async with (
        connection(shop_dsn) as first,
        connection(shop_dsn) as second,
        first.transaction(),
    ):
        await claim(first, SCOPE)
        await save(first, SCOPE, BODY, ANSWER, NOW)
        assert await handle(second, other, fingerprint(b"other")) == "done"
    assert await effects(shop_dsn) == 1


async def test_forgotten_claim_still_cannot_store_two_answers(shop_dsn: str) -> None:
    """The primary key stands behind the lock."""
    async with connection(shop_dsn) as conn:
        async with conn.transaction():
            await save(conn, SCOPE, BODY, ANSWER, NOW)
        with pytest.raises(Conflict) as caught:
            async with conn.transaction():
                await save(conn, SCOPE, BODY, ANSWER, NOW)
    assert caught.value.stable_code == "idempotency_in_flight"


async def test_purge_removes_the_old_and_only_the_old_in_bounded_steps(shop_dsn: str) -> None:
    """A record younger than the limit stays; a large backlog goes batch by batch."""
    count = PURGE_BATCH + 10
    async with connection(shop_dsn) as conn:
        await conn.execute(
            "INSERT INTO idempotency_key SELECT 'u', 'r', n::text, '', 200, '{}', '', %s"
            " FROM generate_series(1, %s) AS n",
            (NOW, count),
        )
        await save(conn, SCOPE, BODY, ANSWER, NOW + timedelta(seconds=1))
        limit = NOW + timedelta(seconds=1)
        assert [await purge(conn, limit) for _ in range(3)] == [PURGE_BATCH, 10, 0]
        assert await find(conn, SCOPE, BODY) == ANSWER


async def test_table_definition_can_run_twice(shop_dsn: str) -> None:
    """A migration that is repeated does no harm."""
    async with connection(shop_dsn) as conn:
        await conn.execute(DDL)
