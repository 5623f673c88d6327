"""The anomalies of tables that are not in Boyce-Codd normal form, made on real ones."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg import AsyncConnection

from month2_databases.models import METADATA
from month2_databases.models.normal_forms import (
    BY_WAY_OF_ANOTHER,
    LIST_IN_A_CELL,
    PART_OF_A_KEY_DETERMINED,
    PART_OF_THE_KEY,
    STEPS,
    Step,
    contradictions,
)

ROWS: dict[str, str] = {
    "order_with_list": "(1, 7, 'tea,cup'), (2, 7, 'teapot')",
    "line_with_product": "(1, 'tea', 2, 'Tea'), (2, 'tea', 1, 'Tea'), (2, 'cup', 1, 'Cup')",
    "order_with_user": "(1, 7, 'a@x'), (2, 7, 'a@x'), (3, 8, 'b@x')",
    "picking": "('tea', 'north', 'Ann'), ('cup', 'north', 'Ann'), ('tea', 'south', 'Bob')",
}
UPDATES: dict[str, str] = {
    "line_with_product": "SET title = 'Green tea' WHERE order_id = 1 AND sku = 'tea'",
    "order_with_user": "SET email = 'new@x' WHERE order_id = 1",
    "picking": "SET warehouse = 'west' WHERE sku = 'tea' AND picker = 'Ann'",
}


@pytest.fixture
async def conn(database_dsn: str) -> AsyncIterator[AsyncConnection]:
    """All tables of all steps; those before the split are filled."""
    async with await AsyncConnection.connect(database_dsn, autocommit=True) as opened:
        for step in STEPS:
            for table in (step.before, *step.after):
                await opened.execute(table.define)
            await _run(opened, f"INSERT INTO {step.before.name} VALUES {ROWS[step.before.name]}")
        yield opened


async def _run(conn: AsyncConnection, statement: str) -> list[tuple[object, ...]]:
    cursor = await conn.execute(statement.encode())
    return await cursor.fetchall() if cursor.description else []


@pytest.mark.parametrize(
    "step",
    [PART_OF_THE_KEY, BY_WAY_OF_ANOTHER, PART_OF_A_KEY_DETERMINED],
    ids=lambda step: step.before.name,
)
async def test_a_fact_in_two_places_can_contradict_itself(
    conn: AsyncConnection, step: Step
) -> None:
    """Update anomaly: one of its places is changed, and the server sees nothing wrong."""
    assert step.broken is not None
    assert await contradictions(conn, step.before, step.broken) == 0
    await _run(conn, f"UPDATE {step.before.name} {UPDATES[step.before.name]}")
    assert await contradictions(conn, step.before, step.broken) == 1


@pytest.mark.parametrize(
    "step",
    [PART_OF_THE_KEY, BY_WAY_OF_ANOTHER, PART_OF_A_KEY_DETERMINED],
    ids=lambda step: step.before.name,
)
async def test_split_it_stands_once_and_cannot(conn: AsyncConnection, step: Step) -> None:
    """The dependency's left side is the key of a table now: a second value is refused."""
    assert step.broken is not None
    [home] = [
        part
        for part in step.after
        if part.relation.attributes == step.broken.left | step.broken.right
    ]
    one, other = ("(1, 'a')", "(1, 'b')") if "int" in home.define else ("('x', 'a')", "('x', 'b')")
    await _run(conn, f"INSERT INTO {home.name} VALUES {one}")
    with pytest.raises(psycopg.errors.UniqueViolation):
        await _run(conn, f"INSERT INTO {home.name} VALUES {other}")


@pytest.mark.parametrize("step", STEPS[1:], ids=lambda step: step.before.name)
async def test_the_parts_joined_are_the_rows_that_were_split(
    conn: AsyncConnection, step: Step
) -> None:
    """Nothing is lost and nothing invented."""
    for part in step.after:
        names = ", ".join(sorted(part.relation.attributes))
        source = f"SELECT DISTINCT {names} FROM {step.before.name}"
        await _run(conn, f"INSERT INTO {part.name} ({names}) {source}")
    names = ", ".join(sorted(step.before.relation.attributes))
    one, other = (part.name for part in step.after)
    joined = await _run(conn, f"SELECT {names} FROM {one} NATURAL JOIN {other} ORDER BY {names}")
    assert joined == await _run(conn, f"SELECT {names} FROM {step.before.name} ORDER BY {names}")


async def test_a_product_that_nobody_has_ordered_cannot_be_stored(conn: AsyncConnection) -> None:
    """Insert anomaly: a fact needs another one that it has nothing to do with."""
    with pytest.raises(psycopg.errors.NotNullViolation):
        await _run(conn, "INSERT INTO line_with_product (sku, title) VALUES ('pot', 'Pot')")
    await _run(conn, "INSERT INTO product VALUES ('pot', 'Pot')")


async def test_a_title_goes_with_the_last_order_of_it(conn: AsyncConnection) -> None:
    """Delete anomaly: the cup was ordered once; the order goes, and what a cup is called."""
    await _run(conn, "DELETE FROM line_with_product WHERE order_id = 2")
    assert await _run(conn, "SELECT title FROM line_with_product WHERE sku = 'cup'") == []


async def test_an_address_goes_with_the_only_order_of_its_user(conn: AsyncConnection) -> None:
    """Delete anomaly, by way of another attribute."""
    await _run(conn, "DELETE FROM order_with_user WHERE order_id = 3")
    assert await _run(conn, "SELECT email FROM order_with_user WHERE user_id = 8") == []


async def test_a_list_in_a_cell_is_searched_by_its_letters(conn: AsyncConnection) -> None:
    """Before the first form: whoever looks for tea finds a teapot, and no index helps."""
    found = await _run(conn, "SELECT order_id FROM order_with_list WHERE skus LIKE '%tea%'")
    assert sorted(found) == [(1,), (2,)]
    await _run(conn, "INSERT INTO order_sku VALUES (1, 'tea', 1), (1, 'cup', 1), (2, 'teapot', 1)")
    assert await _run(conn, "SELECT order_id FROM order_sku WHERE sku = 'tea'") == [(1,)]


async def test_a_list_in_a_cell_holds_the_same_thing_twice(conn: AsyncConnection) -> None:
    """There is no key inside a text; in a table of its own there is."""
    await _run(conn, f"INSERT INTO {LIST_IN_A_CELL.before.name} VALUES (3, 7, 'tea,tea')")
    await _run(conn, "INSERT INTO order_sku VALUES (3, 'tea', 1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        await _run(conn, "INSERT INTO order_sku VALUES (3, 'tea', 1)")


async def test_boyce_codd_gives_up_a_rule_that_third_form_kept(conn: AsyncConnection) -> None:
    """One picker for a thing in a warehouse: a key before, and over two tables afterwards."""
    with pytest.raises(psycopg.errors.UniqueViolation):
        await _run(conn, "INSERT INTO picking VALUES ('tea', 'north', 'Cid')")
    await _run(conn, "INSERT INTO picker_at VALUES ('Ann', 'north'), ('Cid', 'north')")
    await _run(conn, "INSERT INTO picks VALUES ('tea', 'Ann'), ('tea', 'Cid')")


def test_the_metadata_is_accepted_by_the_server(database_dsn: str) -> None:
    """Every table of the model, with its keys and checks."""
    from sqlalchemy import create_engine, inspect

    engine = create_engine(database_dsn.replace("postgresql://", "postgresql+psycopg://", 1))
    try:
        METADATA.create_all(engine)
        assert set(inspect(engine).get_table_names()) == set(METADATA.tables)
    finally:
        engine.dispose()
