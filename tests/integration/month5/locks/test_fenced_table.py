"""The fence of month5_kvstore/locks/fenced_table.py, in a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from month5_kvstore.locks import DDL, Fenced, FencedTable, StaleToken
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.errors import NotFound


@pytest.fixture
async def table(database_dsn: str) -> AsyncIterator[FencedTable]:
    """One number, 0, that has seen no token."""
    settings = PostgresSettings(database_dsn, acquire_timeout_s=30.0, statement_timeout_s=30.0)
    async with Database(settings, name="fenced") as database:
        async with database.autocommit() as conn:
            await conn.execute(DDL.encode())
        made = FencedTable(database)
        await made.create("n", 0)
        yield made


async def test_a_write_with_an_older_token_changes_nothing(table: FencedTable) -> None:
    await table.write("n", 1, token=7)
    with pytest.raises(StaleToken):
        await table.write("n", 2, token=6)
    assert await table.peek("n") == Fenced(1, 7)
    await table.write("n", 3, token=7)
    assert await table.peek("n") == Fenced(3, 7)


async def test_a_read_shows_its_token_too(table: FencedTable) -> None:
    """Else the old holder's write would come between the new one's read and its write."""
    assert await table.read("n", token=8) == 0
    with pytest.raises(StaleToken):
        await table.write("n", 1, token=7)
    with pytest.raises(StaleToken):
        await table.read("n", token=7)
    await table.write("n", 1, token=8)


async def test_of_many_at_once_the_highest_token_is_what_stands(table: FencedTable) -> None:
    """F1 under concurrency: whatever comes after the highest is refused."""

    async def write(token: int) -> bool:
        try:
            await table.write("n", token, token=token)
        except StaleToken:
            return False
        return True

    tokens = [13, 2, 40, 21, 40, 5, 39, 1]
    done = await asyncio.gather(*(write(token) for token in tokens))
    assert done[2]
    assert await table.peek("n") == Fenced(40, 40)


async def test_a_number_that_is_not_there_is_not_stale(table: FencedTable) -> None:
    with pytest.raises(NotFound):
        await table.write("other", 1, token=1)
    with pytest.raises(NotFound):
        await table.read("other", token=1)
