"""The comparison at the end of a move sees every difference, and no difference of order alone."""

from __future__ import annotations

import psycopg
import pytest

from month2_databases.resharding import MovedTable, ShardServer, layouts_of
from month2_databases.resharding.rows import fingerprints

_DDL = """
CREATE TABLE thing (
    id bigint PRIMARY KEY, slot smallint NOT NULL, a text, b text COLLATE "C", n numeric, data jsonb
)
"""
_INSERT = "INSERT INTO thing VALUES (%s, %s, %s, %s, %s, %s)"
ROWS = [(1, 7, "x", "y", "1.0", '{"k": 1}'), (2, 7, "u", None, None, None)]


async def sums(dsn: str, rows: list[tuple[object, ...]]) -> tuple[int, str]:
    """Of slot 7, with these rows and one of another slot in the table."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("DROP TABLE IF EXISTS thing")
        conn.execute(_DDL)
        with conn.cursor() as cursor:
            cursor.executemany(_INSERT, [*rows, (99, 8, "other", "slot", None, None)])
    server = ShardServer("one", dsn)
    layouts = await layouts_of(server, [MovedTable("thing")])
    return (await fingerprints(server, layouts, [7]))["thing"]


CHANGED: dict[str, list[tuple[object, ...]]] = {
    "a letter": [(1, 7, "X", "y", "1.0", '{"k": 1}'), ROWS[1]],
    "two columns swapped": [(1, 7, "y", "x", "1.0", '{"k": 1}'), ROWS[1]],
    "a value moved to another row": [
        (1, 7, "u", "y", "1.0", '{"k": 1}'),
        (2, 7, "x", None, None, None),
    ],
    "empty for NULL": [ROWS[0], (2, 7, "u", "", None, None)],
    "NULL in another column": [ROWS[0], (2, 7, None, "u", None, None)],
    "a digit after the point": [(1, 7, "x", "y", "1.00", '{"k": 1}'), ROWS[1]],
    "inside a document": [(1, 7, "x", "y", "1.0", '{"k": 2}'), ROWS[1]],
    "a row less": [ROWS[0]],
}


@pytest.mark.parametrize("what", list(CHANGED))
async def test_every_difference_is_seen(database_dsn: str, what: str) -> None:
    assert await sums(database_dsn, CHANGED[what]) != await sums(database_dsn, [*ROWS])


async def test_the_order_of_rows_is_no_difference(database_dsn: str) -> None:
    assert await sums(database_dsn, ROWS[::-1]) == await sums(database_dsn, [*ROWS])
