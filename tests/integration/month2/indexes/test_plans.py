"""Claims about PostgreSQL's plans: which index serves which question, judged by EXPLAIN."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import LiteralString

import psycopg
import pytest
from psycopg import AsyncConnection

from month2_databases.indexes import explain, has_pageinspect, index_shape, levels_for, read_plan
from scalelab.errors import InvalidInput, NotFound
from scalelab.lab.servers import Postgres
from tests.fixtures.databases import DatabaseOf

ROWS = 20_000


def _fill(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(
            "CREATE TABLE orders (id bigint PRIMARY KEY, user_id int NOT NULL, day int NOT NULL,"
            " state text NOT NULL, email text NOT NULL, total int NOT NULL, extra jsonb NOT NULL)"
        )
        conn.execute(
            "INSERT INTO orders SELECT n, n * 7919 %% 500, n / 100,"
            " CASE WHEN n %% 100 = 0 THEN 'open' ELSE 'done' END, 'User' || n || '@example.com',"
            " n %% 1000, jsonb_build_object('gift', n %% 1000 = 0)"
            " FROM generate_series(1, %s) AS n",
            (ROWS,),
        )
        conn.execute("VACUUM ANALYZE orders")


@pytest.fixture
async def orders(database_of: DatabaseOf) -> AsyncIterator[AsyncConnection]:
    """20,000 orders of 500 users over 200 days, one in a hundred open; vacuumed and analyzed."""
    async with await AsyncConnection.connect(database_of(_fill), autocommit=True) as conn:
        yield conn


Case = tuple[LiteralString, LiteralString, str]
CASES: dict[str, Case] = {
    "an equal key": ("(user_id)", "user_id = 7", "Bitmap Heap Scan"),
    "nearly the whole table": ("(user_id)", "user_id >= 5", "Seq Scan"),
    "the first column of a composite index": ("(user_id, day)", "user_id = 7", "Bitmap Heap Scan"),
    "only the second column of it": ("(user_id, day)", "day < 190 AND day > 5", "Seq Scan"),
    "a partial index": ("(id) WHERE state = 'open'", "state = 'open'", "Bitmap Heap Scan"),
    "a partial index asked for the rest": ("(total) WHERE state = 'open'", "total = 7", "Seq Scan"),
    "an expression": ("(lower(email))", "lower(email) = 'user7@example.com'", "Index Scan"),
    "the bare column of it": ("(lower(email))", "email = 'User7@example.com'", "Seq Scan"),
    "GIN on JSON": ("USING gin (extra)", """extra @> '{"gift": true}'""", "Bitmap Heap Scan"),
    "BRIN on an ordered column": (
        "USING brin (day) WITH (pages_per_range = 4)",
        "day = 7",
        "Bitmap Heap Scan",
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_the_planner_takes_the_index_that_fits_the_question(
    orders: AsyncConnection, name: str
) -> None:
    """One index, one question, one kind of scan."""
    index, condition, kind = CASES[name]
    await orders.execute("CREATE INDEX of_test ON orders " + index)
    await orders.execute("VACUUM ANALYZE orders")
    plan = await explain(orders, "SELECT * FROM orders WHERE " + condition, analyze=True)
    found = "Bitmap Heap Scan" if plan.scan("orders").kind == "Bitmap Heap Scan" else None
    assert (found or plan.scan("orders").kind) in (kind, kind.replace("Bitmap Heap", "Index"))
    assert ("of_test" in plan.indexes) == (kind != "Seq Scan")


async def test_a_covering_index_answers_without_the_table_until_rows_change(
    orders: AsyncConnection,
) -> None:
    """INCLUDE makes it index-only; a page that changed since the last vacuum is looked at."""
    await orders.execute("CREATE INDEX of_user ON orders (user_id) INCLUDE (total)")
    await orders.execute("VACUUM ANALYZE orders")
    question = "SELECT total FROM orders WHERE user_id = 7"
    scan = (await explain(orders, question, analyze=True)).scan("orders")
    assert (scan.kind, scan.heap_fetches) == ("Index Only Scan", 0)
    await orders.execute("UPDATE orders SET total = 0 WHERE user_id = 7")
    scan = (await explain(orders, question, analyze=True)).scan("orders")
    assert scan.heap_fetches is None or scan.heap_fetches >= 40


async def test_columns_that_depend_on_each_other_are_misjudged_until_statistics_say_so(
    orders: AsyncConnection,
) -> None:
    """The planner multiplies shares: 1/50 * 1/50. Extended statistics know that it is 1/50."""
    await orders.execute(
        "CREATE TABLE place AS SELECT n % 50 AS city, n % 50 AS zip"
        " FROM generate_series(1, 20000) AS n"
    )
    await orders.execute("ANALYZE place")
    question = "SELECT * FROM place WHERE city = 7 AND zip = 7"
    plain = (await explain(orders, question, analyze=True)).scan("place")
    assert plain.misestimate > 20
    await orders.execute("CREATE STATISTICS of_place (dependencies) ON city, zip FROM place")
    await orders.execute("ANALYZE place")
    told = (await explain(orders, question, analyze=True)).scan("place")
    assert told.misestimate < 2


@pytest.mark.parametrize("document", [None, "", "[]", "[{}]", [{"Plan": {}}], {"Plan": 1}, "[1]"])
def test_what_is_no_plan_is_refused(document: object) -> None:
    with pytest.raises(InvalidInput):
        read_plan(document)


async def test_a_table_that_is_not_in_the_plan_is_not_found(orders: AsyncConnection) -> None:
    plan = await explain(orders, "SELECT 1")
    with pytest.raises(NotFound):
        plan.scan("orders")


async def test_postgres_own_pages_have_the_height_that_theory_says(
    postgres_server: Postgres,
) -> None:
    """A packed index on 200,000 bigints: levels and fan-out from its pages, and from arithmetic."""
    name = "t_pages"
    async with await AsyncConnection.connect(
        postgres_server.superuser_dsn(), autocommit=True
    ) as admin:
        await admin.execute(f"DROP DATABASE IF EXISTS {name}")
        await admin.execute(f"CREATE DATABASE {name}")
    try:
        async with await AsyncConnection.connect(
            postgres_server.superuser_dsn(name), autocommit=True
        ) as conn:
            if not await has_pageinspect(conn):
                pytest.skip("not run: this PostgreSQL has no contrib module pageinspect")
            await conn.execute(
                "CREATE TABLE t AS SELECT n::bigint FROM generate_series(1,200000) n"
            )
            await conn.execute("CREATE INDEX of_t ON t (n) WITH (fillfactor = 100)")
            found = await index_shape(conn, "of_t")
        assert found.entries == 200_000
        # 8192 bytes less header and tail, 16 for an entry and 4 for its pointer; a high key.
        per_leaf = (8192 - 24 - 16) // 20 - 1
        # A build leaves three tenths of a branch free for splits to come.
        per_branch = int(0.7 * per_leaf)
        assert found.levels == levels_for(200_000, leaf=per_leaf, children=per_branch)
        assert found.fill > 0.98
    finally:
        with psycopg.connect(postgres_server.superuser_dsn(), autocommit=True) as admin_conn:
            admin_conn.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
