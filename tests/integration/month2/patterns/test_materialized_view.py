"""A materialised view that says how old it is, on a real server."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from month2_databases.patterns import MaterializedView, ViewTooStale
from scalelab.clients.postgres import Database
from scalelab.errors import Conflict, NotFound, ScalelabError

QUESTION = "SELECT sku, sum(quantity)::int AS sold FROM line GROUP BY sku"
ALL = "SELECT sku, sold FROM best ORDER BY sku"
ANY_AGE_S = 1e9


@pytest.fixture
async def view(database: Database) -> MaterializedView:
    """What was sold of each thing: two of tea, one of a cup."""
    await _run(database, "CREATE TABLE line (sku text, quantity int)")
    await _run(database, "INSERT INTO line VALUES ('tea', 1), ('cup', 1), ('tea', 1)")
    view = MaterializedView(database, "best")
    await view.define(QUESTION, key=["sku"])
    return view


async def _run(database: Database, statement: str) -> None:
    async with database.autocommit() as conn:
        await conn.execute(statement.encode())


async def _hours_pass(database: Database, hours: int) -> None:
    """As if the last refresh had been so long ago."""
    await _run(database, f"UPDATE view_freshness SET as_of = as_of - interval '{hours} hours'")


async def test_what_was_written_since_the_refresh_is_missing_until_the_next(
    database: Database, view: MaterializedView
) -> None:
    """V2, and the price of it."""
    await _run(database, "INSERT INTO line VALUES ('pot', 5)")
    before = await view.read(ALL, most_stale_s=ANY_AGE_S)
    assert before.rows == (("cup", 1), ("tea", 2))
    assert await view.refresh()
    after = await view.read(ALL, most_stale_s=ANY_AGE_S)
    assert after.rows == (("cup", 1), ("pot", 5), ("tea", 2))
    assert after.as_of > before.as_of


async def test_a_reader_who_wants_it_newer_is_refused(
    database: Database, view: MaterializedView
) -> None:
    """An old answer is an error for who cannot live with it, and an answer with its age else."""
    await _hours_pass(database, 2)
    with pytest.raises(ViewTooStale) as refusal:
        await view.read(ALL, most_stale_s=3600.0)
    assert refusal.value.stable_code == "view_too_stale"
    assert (await view.read(ALL, most_stale_s=3 * 3600.0)).age_s >= 7200.0
    await view.refresh()
    assert (await view.read(ALL, most_stale_s=3600.0)).rows


async def test_a_refresh_that_fails_changes_neither_rows_nor_age(
    database: Database, view: MaterializedView
) -> None:
    """V3: the question divides by what was written."""
    await _run(database, "CREATE TABLE share (whole int)")
    await _run(database, "INSERT INTO share VALUES (2)")
    shares = MaterializedView(database, "shares")
    await shares.define("SELECT whole, 100 / whole AS part FROM share", key=["whole"])
    before = await shares.read("SELECT part FROM shares", most_stale_s=ANY_AGE_S)
    await _run(database, "INSERT INTO share VALUES (0)")
    with pytest.raises(ScalelabError, match="division by zero"):
        await shares.refresh()
    after = await shares.read("SELECT part FROM shares", most_stale_s=ANY_AGE_S)
    assert (after.rows, after.as_of) == (before.rows, before.as_of) == (((50,),), before.as_of)


async def test_readers_go_on_while_it_is_refreshed_and_see_one_state(
    database: Database, view: MaterializedView, database_dsn: str
) -> None:
    """V1: a refresh that has stamped and not committed shows nobody its stamp or its rows."""
    before = await view.read(ALL, most_stale_s=ANY_AGE_S)
    await _run(database, "INSERT INTO line VALUES ('pot', 5)")
    async with await psycopg.AsyncConnection.connect(database_dsn) as refreshing:
        await refreshing.execute("UPDATE view_freshness SET as_of = clock_timestamp()")
        await refreshing.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY best")
        during = await view.read(ALL, most_stale_s=ANY_AGE_S)
        assert (during.rows, during.as_of) == (before.rows, before.as_of)
        await refreshing.commit()
    after = await view.read(ALL, most_stale_s=ANY_AGE_S)
    assert len(after.rows) == 3
    assert after.as_of > before.as_of


async def test_a_refresh_between_stamp_and_rows_shows_neither(
    database: Database, view: MaterializedView, database_dsn: str
) -> None:
    """V1: the reader has the stamp, and waits for the view until the refresh has committed."""
    before = await view.read(ALL, most_stale_s=ANY_AGE_S)
    await _run(database, "INSERT INTO line VALUES ('pot', 5)")
    async with await psycopg.AsyncConnection.connect(database_dsn) as refreshing:
        await refreshing.execute("ALTER MATERIALIZED VIEW best OWNER TO CURRENT_USER")
        reading = asyncio.create_task(view.read(ALL, most_stale_s=ANY_AGE_S))
        waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'best'::regclass AND NOT granted"
        async with asyncio.timeout(60):
            while await (await refreshing.execute(waiting)).fetchone() != (1,):
                pass
        await refreshing.execute("UPDATE view_freshness SET as_of = clock_timestamp()")
        await refreshing.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY best")
        await refreshing.commit()
        during = await reading
    assert (during.rows, during.as_of) == (before.rows, before.as_of)


async def test_of_two_refreshes_at_once_one_works(
    database: Database, view: MaterializedView, database_dsn: str
) -> None:
    """V4: the other does not queue for a lock to do the same again."""
    async with await psycopg.AsyncConnection.connect(database_dsn) as other:
        await other.execute("SELECT pg_advisory_xact_lock(hashtextextended('refresh best', 0))")
        assert not await view.refresh()
    async with asyncio.timeout(60):
        assert await view.refresh()


async def test_a_key_that_does_not_tell_rows_apart_makes_no_view(
    database: Database, view: MaterializedView
) -> None:
    """The index is part of the making: whole or not at all."""
    doubled = MaterializedView(database, "doubled")
    with pytest.raises(Conflict) as refusal:
        await doubled.define("SELECT sku FROM line", key=["sku"])
    assert refusal.value.stable_code == "unique_violation"
    with pytest.raises(NotFound):
        await doubled.refresh()
    with pytest.raises(NotFound):
        await doubled.read("SELECT 1", most_stale_s=ANY_AGE_S)


async def test_a_view_is_not_made_over_another(view: MaterializedView) -> None:
    """A changed question under an old name would go unnoticed."""
    with pytest.raises(Conflict) as refusal:
        await view.define("SELECT 1 AS one", key=["one"])
    assert refusal.value.stable_code == "view_exists"
