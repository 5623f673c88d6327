"""Bounds of PostgreSQL's partitions: from the server's words to spans and back. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from psycopg import sql

from month2_databases.partitioning.time_partitions import BEGINNING, END, Span
from scalelab.errors import InvalidInput

DEFAULT = "DEFAULT"
_RANGE = re.compile(r"FOR VALUES FROM \((?P<begin>[^,()]+)\) TO \((?P<end>[^,()]+)\)")


def read_bounds(said: str) -> Span | None:
    """The span of what `pg_get_expr(relpartbound, oid)` says; None for the default partition.

    Raises InvalidInput (foreign_bounds) for a list, a hash, more than one column, or bounds that
    are no instants with a time zone, written in ISO style.
    """
    if said == DEFAULT:
        return None
    found = _RANGE.fullmatch(said)
    if found is None:
        raise _foreign(said)
    return Span(_instant(found["begin"], said, BEGINNING), _instant(found["end"], said, END))


def values_from(span: Span) -> sql.Composed:
    """FOR VALUES FROM … TO …, for CREATE and ATTACH, which take no parameters."""
    return sql.SQL("FOR VALUES FROM ({}) TO ({})").format(_bound(span.begin), _bound(span.end))


def condition(column: str, span: Span) -> sql.Composed:
    """What is true of every row of a span, NULL refused: what ATTACH wants to see proved."""
    name = sql.Identifier(column)
    parts = [sql.SQL("{} IS NOT NULL").format(name)]
    if span.begin != BEGINNING:
        parts.append(sql.SQL("{} >= {}").format(name, _bound(span.begin)))
    if span.end != END:
        parts.append(sql.SQL("{} < {}").format(name, _bound(span.end)))
    return sql.SQL(" AND ").join(parts)


def _bound(instant: datetime) -> sql.Composable:
    if instant == BEGINNING:
        return sql.SQL("MINVALUE")
    if instant == END:
        return sql.SQL("MAXVALUE")
    return sql.SQL("timestamptz {}").format(sql.Literal(instant.astimezone(UTC).isoformat()))


def _instant(word: str, said: str, unbounded: datetime) -> datetime:
    if word in ("MINVALUE", "MAXVALUE"):
        return unbounded
    try:
        instant = datetime.fromisoformat(word.strip("'"))
    except ValueError as error:
        raise _foreign(said) from error
    if instant.tzinfo is None:
        raise _foreign(said)
    return instant.astimezone(UTC)


def _foreign(said: str) -> InvalidInput:
    return InvalidInput(
        f"a partition by one timestamptz column is wanted, here is: {said}",
        field="bounds",
        code="foreign_bounds",
    )
