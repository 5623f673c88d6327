"""The diagram comes from the metadata, and the page shows the one that comes."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table

from month2_databases.models import METADATA, er_diagram


def _two(*, is_reversed: bool = False, nullable: bool = False, unique: bool = False) -> MetaData:
    metadata = MetaData()

    def parent() -> None:
        Table("parent", metadata, Column("id", Integer, primary_key=True))

    def child() -> None:
        key = ForeignKey("parent.id")
        of = Column("of", Integer, key, nullable=nullable, unique=unique)
        Table("child", metadata, Column("id", Integer, primary_key=True), of)

    for define in (child, parent) if is_reversed else (parent, child):
        define()
    return metadata


def test_the_page_shows_the_diagram_of_the_metadata(pytestconfig: pytest.Config) -> None:
    """Whoever changes the model runs `python -m month2_databases.models` and changes the page."""
    path = pytestconfig.rootpath / "month2_databases/pages/models.md"
    page = path.read_text(encoding="utf-8")
    assert f"```mermaid\n{er_diagram(METADATA)}```\n" in page


def test_the_order_of_definitions_does_not_matter() -> None:
    """The same text, so that a difference is a difference of the model."""
    assert er_diagram(_two()) == er_diagram(_two(is_reversed=True))


def test_how_many_stand_at_each_end_is_read_from_the_constraints() -> None:
    """NOT NULL demands a parent; UNIQUE allows one child."""
    assert "parent ||--o{ child" in er_diagram(_two())
    assert "parent |o--o{ child" in er_diagram(_two(nullable=True))
    assert "parent ||--o| child" in er_diagram(_two(unique=True))


def test_every_table_and_column_is_in_it() -> None:
    """With its type and its keys."""
    text = er_diagram(METADATA)
    for table in METADATA.tables.values():
        assert f"    {table.name} {{" in text
        for column in table.columns:
            assert f" {column.name}" in text
    assert "uuid order_id PK, FK" in text
    assert "text email UK" in text
