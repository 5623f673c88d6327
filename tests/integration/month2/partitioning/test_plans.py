"""Claims about which partitions and tables a statement touches, read from PostgreSQL's plans."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import LiteralString

import psycopg
import pytest
from psycopg import AsyncConnection

from month2_databases.indexes import explain
from month2_databases.partitioning import COLD, HOT, SCHEMA, Pruning, pruning

MONTHS = tuple(f"sale_m{month:02}" for month in range(1, 13))


@pytest.fixture(scope="module")
def filled_dsn(module_database_dsn: str) -> str:
    """Twelve months of 100 sales each, and the split product table with 500 rows."""
    with psycopg.connect(module_database_dsn, autocommit=True) as conn:
        conn.execute(
            "CREATE TABLE sale (id bigint, at timestamptz NOT NULL, PRIMARY KEY (id, at))"
            " PARTITION BY RANGE (at)"
        )
        for month, name in enumerate(MONTHS, start=1):
            end = "2027-01" if month == 12 else f"2026-{month + 1:02}"
            conn.execute(
                f"CREATE TABLE {name} PARTITION OF sale FOR VALUES"
                f" FROM ('2026-{month:02}-01Z') TO ('{end}-01Z')".encode()
            )
        conn.execute(
            "INSERT INTO sale SELECT n, timestamptz '2026-01-01Z' + n * interval '7 hours'"
            " FROM generate_series(0, 1199) n"
        )
        conn.execute(SCHEMA)
        conn.execute(
            "INSERT INTO product SELECT n, 100, 1, repeat('x', 800) FROM generate_series(1, 500) n"
        )
        conn.execute("VACUUM ANALYZE")
    return module_database_dsn


@pytest.fixture
async def conn(filled_dsn: str) -> AsyncIterator[AsyncConnection]:
    """A session of its own on the module's tables, whose changes are rolled back."""
    async with await AsyncConnection.connect(filled_dsn) as session:
        yield session
        await session.rollback()


async def asked(conn: AsyncConnection, condition: LiteralString, *values: object) -> Pruning:
    """What a count with this condition touched."""
    statement = "SELECT count(*) FROM sale WHERE " + condition
    return pruning(await explain(conn, statement, values, analyze=True), MONTHS)


async def test_a_constant_leaves_partitions_out_when_planning(conn: AsyncConnection) -> None:
    """The plan names June and no other."""
    found = await asked(conn, "at >= '2026-06-01Z' AND at < '2026-07-01Z'")
    assert found.touched == ("sale_m06",)
    assert len(found.when_planning) == 11


async def test_a_value_of_the_start_leaves_them_out_when_starting(conn: AsyncConnection) -> None:
    """A plan for any value: eleven parts of it are removed when the value is known."""
    await conn.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    await conn.execute("PREPARE of_time AS SELECT count(*) FROM sale WHERE at = $1")
    plan = await explain(conn, "EXECUTE of_time ('2026-06-10Z')", analyze=True)
    found = pruning(plan, MONTHS)
    assert (found.touched, found.at_start) == (("sale_m06",), 11)
    assert found.when_planning == ()


async def test_a_value_out_of_the_statement_leaves_them_out_when_running(
    conn: AsyncConnection,
) -> None:
    """All twelve stand in the plan; eleven of them never ran."""
    found = await asked(conn, "at = (SELECT max(at) FROM sale_m03)")
    assert found.touched == ("sale_m03",)
    assert len(found.when_running) == 11


@pytest.mark.parametrize(
    "condition",
    ["id = 7", "date_trunc('month', at) = '2026-06-01Z'", "at::text LIKE '2026-06%%'"],
)
async def test_without_the_bare_key_every_partition_is_touched(
    conn: AsyncConnection, condition: LiteralString
) -> None:
    """Another column, and the key within an expression."""
    assert (await asked(conn, condition)).touched == MONTHS


async def test_the_view_leaves_the_cold_columns_alone_until_they_are_asked_for(
    conn: AsyncConnection,
) -> None:
    """The planner removes the join: it could change no row."""
    hot = await explain(conn, "SELECT id, price_cents FROM product WHERE stock > 0", analyze=True)
    assert hot.relations == (HOT,)
    both = await explain(conn, "SELECT description FROM product WHERE id = 7", analyze=True)
    assert both.relations == (COLD, HOT)


async def test_a_new_price_does_not_touch_the_cold_columns(conn: AsyncConnection) -> None:
    """Written through the view: the cold row is the same version as before."""
    where = "SELECT ctid::text FROM {} WHERE id = 7"
    before = [await _one(conn, where.format(table)) for table in (HOT, COLD)]
    await conn.execute("UPDATE product SET price_cents = 250 WHERE id = 7")
    after = [await _one(conn, where.format(table)) for table in (HOT, COLD)]
    assert before[0] != after[0]
    assert before[1] == after[1]
    assert await _one(conn, "SELECT price_cents FROM product WHERE id = 7") == 250


async def test_a_product_is_written_and_deleted_whole_through_the_view(
    conn: AsyncConnection,
) -> None:
    """Both tables, or with a bad price neither."""
    await conn.execute("INSERT INTO product VALUES (501, 100, 1, 'tea')")
    assert await _one(conn, f"SELECT description FROM {COLD} WHERE id = 501") == "tea"
    await conn.execute("DELETE FROM product WHERE id = 501")
    assert await _one(conn, f"SELECT count(*) FROM {COLD} WHERE id = 501") == 0
    with pytest.raises(psycopg.errors.CheckViolation):
        await conn.execute("INSERT INTO product VALUES (502, 0, 1, 'free')")


async def test_a_product_keeps_its_id(conn: AsyncConnection) -> None:
    """The view does not move a row between ids."""
    with pytest.raises(psycopg.errors.CheckViolation, match="keeps its id"):
        await conn.execute("UPDATE product SET id = 900 WHERE id = 7")


async def _one(conn: AsyncConnection, statement: str) -> object:
    row = await (await conn.execute(statement.encode())).fetchone()
    return row[0] if row else None
