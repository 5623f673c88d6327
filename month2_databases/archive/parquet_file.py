"""Orders as a Parquet file: columns side by side, compressed, with their own minima and maxima.

The same rows give the same bytes, so an export that is done twice gives one object.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet

from month2_databases.archive.temperature import OrderRow
from scalelab.errors import CorruptData

_arrow, _parquet = cast("Any", pa), cast("Any", pyarrow.parquet)  # stubs leave types open
SCHEMA = pa.schema(
    [
        pa.field("order_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("country", pa.string(), nullable=False),
        pa.field("amount_cents", pa.int64(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("placed_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
GROUP_ROWS = 10_000
"""Rows of one row group: what a reader skips or reads together."""


def table_of(rows: Sequence[OrderRow]) -> pa.Table:
    """Rows as an Arrow table."""
    columns = {
        "order_id": [str(row.order_id) for row in rows],
        "user_id": [row.user_id for row in rows],
        "country": [row.country for row in rows],
        "amount_cents": [row.amount_cents for row in rows],
        "state": [row.state for row in rows],
        "placed_at": [row.placed_at for row in rows],
    }
    table: pa.Table = _arrow.table(columns, schema=SCHEMA)
    return table


def rows_of(table: pa.Table) -> list[OrderRow]:
    """The rows again."""
    instants = table["placed_at"].cast(pa.int64()).to_pylist()
    columns = (table[name].to_pylist() for name in SCHEMA.names[:-1])
    return [
        OrderRow(UUID(order), user, country, cents, state, _EPOCH + timedelta(microseconds=instant))
        for order, user, country, cents, state, instant in zip(*columns, instants, strict=True)
    ]


def encode(rows: Sequence[OrderRow]) -> bytes:
    """The bytes of a file with these rows in this order."""
    sink = pa.BufferOutputStream()
    _parquet.write_table(table_of(rows), sink, compression="zstd", row_group_size=GROUP_ROWS)
    return sink.getvalue().to_pybytes()


def decode(file: bytes) -> pa.Table:
    """The table of a file. Raises CorruptData `not_parquet` if it is none of ours."""
    try:
        table: pa.Table = _parquet.read_table(pa.BufferReader(file))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise CorruptData(f"this is no Parquet file: {error}", code="not_parquet") from error
    if not table.schema.equals(SCHEMA):
        raise CorruptData("the columns of this file are not those of orders", code="not_parquet")
    return table
