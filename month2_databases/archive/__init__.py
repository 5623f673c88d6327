"""Archive: cold orders as Parquet in an object store, still readable; then an archive tier."""

from __future__ import annotations

from month2_databases.archive.costs import (
    ARCHIVE_PRICE,
    COLD_PRICE,
    Retrieval,
    TierPrice,
    break_even,
    year_usd,
)
from month2_databases.archive.joint_query import ALWAYS, AllOrders, Answer, Span
from month2_databases.archive.journal import Batch, batch_of, cold_batches, insert_orders, schema
from month2_databases.archive.lifecycle import (
    Due,
    Placement,
    Restore,
    Rules,
    Tier,
    ask_restore,
    due,
    is_readable,
)
from month2_databases.archive.manifest import (
    PREFIX,
    Manifest,
    check_file,
    check_rows,
    from_json,
    manifest_of,
    rows_digest,
    to_json,
)
from month2_databases.archive.mover import Mover, MoveReport
from month2_databases.archive.multipart import Source, UploadReport, give_up, part_size, upload
from month2_databases.archive.parquet_file import GROUP_ROWS, decode, encode, rows_of, table_of
from month2_databases.archive.temperature import (
    END_STATES,
    OPEN_STATES,
    ColdPolicy,
    OrderRow,
    cold_before,
    is_cold,
    month_of,
    months_after,
    start_of,
)
from month2_databases.archive.tier_runner import Buckets, RestorePromise, TierRunner

__all__ = [
    "ALWAYS",
    "ARCHIVE_PRICE",
    "COLD_PRICE",
    "END_STATES",
    "GROUP_ROWS",
    "OPEN_STATES",
    "PREFIX",
    "AllOrders",
    "Answer",
    "Batch",
    "Buckets",
    "ColdPolicy",
    "Due",
    "Manifest",
    "MoveReport",
    "Mover",
    "OrderRow",
    "Placement",
    "Restore",
    "RestorePromise",
    "Retrieval",
    "Rules",
    "Source",
    "Span",
    "Tier",
    "TierPrice",
    "TierRunner",
    "UploadReport",
    "ask_restore",
    "batch_of",
    "break_even",
    "check_file",
    "check_rows",
    "cold_batches",
    "cold_before",
    "decode",
    "due",
    "encode",
    "from_json",
    "give_up",
    "insert_orders",
    "is_cold",
    "is_readable",
    "manifest_of",
    "month_of",
    "months_after",
    "part_size",
    "rows_digest",
    "rows_of",
    "schema",
    "start_of",
    "table_of",
    "to_json",
    "upload",
    "year_usd",
]
