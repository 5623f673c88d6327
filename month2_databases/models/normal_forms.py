"""The order model on its way through the normal forms: four tables that ask for trouble.

Each step is a table as one might have begun with, and the tables it is split into. What depends
on what is written down as dependencies; which form a table is in is worked out from them and not
claimed. The anomalies are shown on real tables: one fact in two places, a fact that cannot be
stored without another one, a fact that goes when another one is deleted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

from psycopg import AsyncConnection, sql

from month2_databases.models.functional_dependencies import Dependency, Relation, depends


@dataclass(frozen=True, slots=True)
class Table:
    """A table and what holds among its columns."""

    name: LiteralString
    define: LiteralString
    relation: Relation


def _table(
    name: LiteralString, columns: LiteralString, key: LiteralString, *dependencies: Dependency
) -> Table:
    """columns: `sku text, quantity int`. The primary key is one dependency more."""
    names = frozenset(column.split()[0] for column in columns.split(", "))
    whole = Dependency(frozenset(key.split(", ")), names)
    return Table(
        name,
        f"CREATE TABLE {name} ({columns}, PRIMARY KEY ({key}))",
        Relation(names, (whole, *dependencies)),
    )


@dataclass(frozen=True, slots=True)
class Step:
    """before: what one begins with. after: its parts, joined again by their common columns."""

    before: Table
    after: tuple[Table, ...]
    broken: Dependency | None
    """What the first table cannot keep by its keys; None for a list in a cell."""


LIST_IN_A_CELL = Step(
    _table("order_with_list", "order_id int, user_id int, skus text", "order_id"),
    (
        _table("order_alone", "order_id int, user_id int", "order_id"),
        _table("order_sku", "order_id int, sku text, quantity int", "order_id, sku"),
    ),
    None,
)
PART_OF_THE_KEY = Step(
    _table(
        "line_with_product",
        "order_id int, sku text, quantity int, title text",
        "order_id, sku",
        depends("sku", "title"),
    ),
    (
        _table("line", "order_id int, sku text, quantity int", "order_id, sku"),
        _table("product", "sku text, title text", "sku"),
    ),
    depends("sku", "title"),
)
BY_WAY_OF_ANOTHER = Step(
    _table(
        "order_with_user",
        "order_id int, user_id int, email text",
        "order_id",
        depends("user_id", "email"),
    ),
    (
        _table("order_of_user", "order_id int, user_id int", "order_id"),
        _table("user_account", "user_id int, email text", "user_id"),
    ),
    depends("user_id", "email"),
)
PART_OF_A_KEY_DETERMINED = Step(
    _table(
        "picking",
        "sku text, warehouse text, picker text",
        "sku, warehouse",
        depends("picker", "warehouse"),
    ),
    (
        _table("picks", "sku text, picker text", "sku, picker"),
        _table("picker_at", "picker text, warehouse text", "picker"),
    ),
    depends("picker", "warehouse"),
)
STEPS = (LIST_IN_A_CELL, PART_OF_THE_KEY, BY_WAY_OF_ANOTHER, PART_OF_A_KEY_DETERMINED)


async def contradictions(conn: AsyncConnection, table: Table, dependency: Dependency) -> int:
    """Values of the left side that stand beside more than one of the right side."""

    def columns(names: frozenset[str]) -> sql.Composed:
        return sql.SQL(", ").join(map(sql.Identifier, sorted(names)))

    statement = sql.SQL(
        "SELECT count(*) FROM (SELECT 1 FROM {table} GROUP BY {left}"
        " HAVING count(DISTINCT ({right})) > 1) AS found"
    ).format(
        table=sql.Identifier(table.name),
        left=columns(dependency.left),
        right=columns(dependency.right),
    )
    row = await (await conn.execute(statement)).fetchone()
    return int(row[0]) if row else 0
