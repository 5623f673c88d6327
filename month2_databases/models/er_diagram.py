"""An entity-relationship diagram of SQLAlchemy metadata, as Mermaid text. Pure.

The same metadata gives the same text, whatever the order in which tables were defined: tables and
relations are sorted by name, columns stand as they are defined. How many rows may stand at each
end is read from the constraints:

    parent end   ||  the key must have a parent;  |o  it may be NULL
    child end    o{  any number;                  o|  at most one, as the foreign key is unique

Source: Chen 1976, "The entity-relationship model"; Mermaid documentation, "Entity relationship".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Column, ForeignKeyConstraint, MetaData, Table, UniqueConstraint
from sqlalchemy.dialects import postgresql


def er_diagram(metadata: MetaData) -> str:
    """The diagram, ending with a newline."""
    tables = sorted(metadata.tables.values(), key=lambda table: table.name)
    lines = ["erDiagram"]
    for table in tables:
        lines += sorted(_relations(table))
    for table in tables:
        lines.append(f"    {table.name} {{")
        lines += [f"        {_attribute(table, column)}" for column in table.columns]
        lines.append("    }")
    return "\n".join(lines) + "\n"


def _relations(table: Table) -> Iterator[str]:
    for key in table.foreign_key_constraints:
        parent = "|o" if any(column.nullable for column in key.columns) else "||"
        child = "o|" if _is_unique(table, key) else "o{"
        columns = ", ".join(key.column_keys)
        yield f'    {key.referred_table.name} {parent}--{child} {table.name} : "{columns}"'


def _is_unique(table: Table, key: ForeignKeyConstraint) -> bool:
    """Whether two rows cannot have the same parent."""
    columns = set(key.column_keys)
    unique = [set(table.primary_key.columns.keys())]
    unique += [
        set(one.columns.keys()) for one in table.constraints if isinstance(one, UniqueConstraint)
    ]
    unique += [set(index.columns.keys()) for index in table.indexes if index.unique]
    return any(one and one <= columns for one in unique)


def _attribute(table: Table, column: Column[object]) -> str:
    """`uuid order_id PK, FK`, as Mermaid wants it; types are PostgreSQL's."""
    marks: list[str] = []
    if column.primary_key:
        marks.append("PK")
    if column.foreign_keys:
        marks.append("FK")
    if any(
        isinstance(one, UniqueConstraint) and set(one.columns.keys()) == {column.key}
        for one in table.constraints
    ):
        marks.append("UK")
    kind = column.type.compile(dialect=postgresql.dialect()).lower().replace(" ", "_")
    words = [kind, column.name, ", ".join(marks)]
    return " ".join(word for word in words if word) + (' "may be null"' if column.nullable else "")
