"""Patterns of reading and writing: answers ahead, batches, locks, transactions run again."""

from month2_databases.patterns.appended_totals import AppendedTotals
from month2_databases.patterns.batched_writes import BatchedWrites
from month2_databases.patterns.claims import TABLE as JOB_TABLE
from month2_databases.patterns.claims import Job, claim, finish
from month2_databases.patterns.materialized_view import AsOf, MaterializedView, ViewTooStale
from month2_databases.patterns.rerun_postgres import Done, Isolation, Transactions
from month2_databases.patterns.row_locks import TABLE as STOCK_TABLE
from month2_databases.patterns.row_locks import Stock, lock, read, write
from month2_databases.patterns.unit_of_work import Answer, Statement, Steps, Work

__all__ = [
    "JOB_TABLE",
    "STOCK_TABLE",
    "Answer",
    "AppendedTotals",
    "AsOf",
    "BatchedWrites",
    "Done",
    "Isolation",
    "Job",
    "MaterializedView",
    "Statement",
    "Steps",
    "Stock",
    "Transactions",
    "ViewTooStale",
    "Work",
    "claim",
    "finish",
    "lock",
    "read",
    "write",
]
