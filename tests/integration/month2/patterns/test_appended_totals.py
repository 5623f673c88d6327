"""Totals that are appended to: nobody waits, and nothing is counted twice."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from month2_databases.patterns import AppendedTotals
from scalelab.clients.postgres import Database
from scalelab.errors import InvalidInput


@pytest.fixture
async def totals(database: Database) -> AppendedTotals:
    totals = AppendedTotals(database)
    await totals.define()
    return totals


async def test_a_total_counts_what_is_folded_and_what_is_not(totals: AppendedTotals) -> None:
    """A1: the same before, between and after folds."""
    for amount in (5, 7, -2, 30):
        await totals.add("tea", amount)
    await totals.add("cup", 1)
    assert await totals.total("tea") == 40
    assert await totals.fold(most=2) == 2
    assert await totals.total("tea") == 40
    assert await totals.fold() == 3
    assert (await totals.total("tea"), await totals.total("cup")) == (40, 1)
    assert await totals.fold() == 0
    assert await totals.total("nothing") == 0


async def test_nobody_who_adds_waits_for_another_or_for_a_fold(
    totals: AppendedTotals, database_dsn: str
) -> None:
    """A2: one transaction adds and stays open, one folds and stays open; a third adds."""
    await totals.add("tea", 1)
    async with (
        await psycopg.AsyncConnection.connect(database_dsn) as adding,
        await psycopg.AsyncConnection.connect(database_dsn) as folding,
    ):
        await adding.execute("INSERT INTO total_added (key, amount) VALUES ('tea', 10)")
        await folding.execute("SELECT 1 FROM total_added FOR UPDATE")
        async with asyncio.timeout(30):
            await totals.add("tea", 100)
        assert await totals.total("tea") == 101
        await adding.commit()
    assert await totals.total("tea") == 111


async def test_folds_at_once_take_different_rows(totals: AppendedTotals, database_dsn: str) -> None:
    """A3: what another fold holds is skipped, not waited for; when it dies, nothing is folded."""
    for amount in (1, 10, 100):
        await totals.add("tea", amount)
    async with await psycopg.AsyncConnection.connect(database_dsn) as dying:
        await dying.execute("SELECT 1 FROM total_added WHERE amount = 10 FOR UPDATE")
        assert await totals.fold() == 2
        assert await totals.total("tea") == 111
    assert await totals.fold() == 1
    assert await totals.total("tea") == 111


async def test_additions_and_folds_at_once_lose_nothing(totals: AppendedTotals) -> None:
    """A1: forty additions, six folds among them; every total read is one that was true."""
    adding = asyncio.gather(*(totals.add("tea", 1) for _ in range(40)))
    read: list[int] = []
    for _ in range(6):
        await totals.fold(most=7)
        read.append(await totals.total("tea"))
    await adding
    assert read == sorted(read)
    assert await totals.total("tea") == 40


async def test_a_fold_of_nothing_is_refused(totals: AppendedTotals) -> None:
    """LIMIT 0 would end well, for ever."""
    with pytest.raises(InvalidInput):
        await totals.fold(most=0)
