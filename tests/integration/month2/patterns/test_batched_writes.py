"""Rows that share a transaction, and do not share each other's mistakes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from month2_databases.patterns import BatchedWrites
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.errors import Conflict, InvalidInput, ScalelabError, Unavailable
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Postgres


@pytest.fixture
async def writes(database: Database) -> AsyncIterator[BatchedWrites]:
    """Events with a key, a number that is not negative, and a word."""
    async with database.autocommit() as conn:
        await conn.execute(
            "CREATE TABLE event (id int PRIMARY KEY, amount int CHECK (amount >= 0), word text)"
        )
    async with BatchedWrites(database, "event", ("id", "amount", "word"), max_batch=64) as opened:
        yield opened


async def _append(
    writes: BatchedWrites, rows: Sequence[tuple[object, ...]]
) -> list[ScalelabError | None]:
    """All rows in one turn of the loop; what each caller was told."""

    async def one(row: tuple[object, ...]) -> ScalelabError | None:
        try:
            await writes.append(*row)
        except ScalelabError as error:
            return error
        return None

    return list(await asyncio.gather(*map(one, rows)))


async def _ids(database: Database) -> list[int]:
    async with database.autocommit(read_only=True) as conn:
        cursor = await conn.execute("SELECT id FROM event ORDER BY id")
        return [row[0] for row in await cursor.fetchall()]


async def test_what_is_appended_in_one_turn_is_one_transaction(
    database: Database, writes: BatchedWrites
) -> None:
    """B1: 64 rows, one transaction; one row more is one more."""
    assert await _append(writes, [(n, n, "x") for n in range(64)]) == [None] * 64
    assert writes.transactions == 1
    assert await _append(writes, [(n, n, "x") for n in range(100, 165)]) == [None] * 65
    assert writes.transactions == 3
    assert len(await _ids(database)) == 129


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ((13, -1, "x"), "check_violation"),
        ((12, 0, "x"), "unique_violation"),
        ((13, "many", "x"), "row_refused"),
        ((13, 2**40, "x"), "row_refused"),
        ((13, 0, "a\x00b"), "row_refused"),
        ((13, 0, object()), "row_refused"),
    ],
)
async def test_one_bad_row_refuses_only_itself(
    database: Database, writes: BatchedWrites, bad: tuple[object, ...], code: str
) -> None:
    """B1: by a constraint, by the server's types, and by the driver before it is sent."""
    rows: list[tuple[object, ...]] = [(n, n, "x") for n in range(32)]
    rows[13] = bad
    told = await _append(writes, rows)
    assert [at for at, error in enumerate(told) if error is not None] == [13]
    refusal = told[13]
    assert refusal is not None
    assert refusal.stable_code == code
    assert await _ids(database) == [n for n in range(32) if n != 13]


async def test_a_bad_row_costs_a_logarithm_of_transactions(writes: BatchedWrites) -> None:
    """Of 64 rows: one whole, and two halves at each of six levels."""
    await _append(writes, [(n, -(n == 40), "x") for n in range(64)])
    assert writes.transactions == 1 + 2 * 6


async def test_of_two_rows_with_one_key_the_first_is_stored(
    database: Database, writes: BatchedWrites
) -> None:
    """B2: as if they had come one by one."""
    told = await _append(writes, [(1, 1, "first"), (2, 2, "x"), (1, 1, "second")])
    assert [error is None for error in told] == [True, True, False]
    assert isinstance(told[2], Conflict)
    async with database.autocommit(read_only=True) as conn:
        cursor = await conn.execute("SELECT word FROM event WHERE id = 1")
        assert await cursor.fetchone() == ("first",)


async def test_a_row_of_the_wrong_length_is_not_even_waited_for(writes: BatchedWrites) -> None:
    """It would shift every value of the line."""
    with pytest.raises(InvalidInput) as refusal:
        await writes.append(1, 2)
    assert refusal.value.stable_code == "row_shape"
    assert writes.transactions == 0


async def test_a_server_that_is_away_is_no_rows_fault(
    server_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """B3: nothing is halved; every caller is told, and a row appended again is stored."""
    caplog.set_level(logging.CRITICAL, logger="psycopg.pool")
    with Runtime(server_root / tmp_path.name, private=True) as runtime:
        server = Postgres("away", settings={"fsync": "off"})
        await asyncio.to_thread(runtime.start, server)
        dsn = await asyncio.to_thread(server.ensure_database, "events", "events")
        patient = PostgresSettings(dsn, acquire_timeout_s=60.0, connect_timeout_s=60.0)
        async with Database(patient, name="events") as database:
            async with database.autocommit() as conn:
                await conn.execute("CREATE TABLE event (id int PRIMARY KEY)")
            await asyncio.to_thread(runtime.kill, "away")
            hasty = PostgresSettings(dsn, acquire_timeout_s=0.3)
            async with Database(hasty, name="away") as away, _events(away) as writes:
                told = await _append(writes, [(n,) for n in range(8)])
                assert all(isinstance(error, Unavailable) for error in told)
                assert writes.transactions == 1
            await asyncio.to_thread(runtime.restart, "away")
            async with _events(database) as writes:
                assert await _append(writes, [(n,) for n in range(8)]) == [None] * 8
            assert await _ids(database) == list(range(8))


def _events(database: Database) -> BatchedWrites:
    return BatchedWrites(database, "event", ("id",))
