"""Indexes: a B+ tree on pages, and PostgreSQL's own: its plans, its pages, its log."""

from month2_databases.indexes.bulk_load import bulk_load
from month2_databases.indexes.fan_out import height_for, levels_for
from month2_databases.indexes.page_file import PageFile
from month2_databases.indexes.page_layout import Capacity
from month2_databases.indexes.plan import Plan, PlanNode, explain, read_plan
from month2_databases.indexes.postgres_pages import IndexShape, has_pageinspect, index_shape
from month2_databases.indexes.tree import BPlusTree
from month2_databases.indexes.tree_check import Shape, as_text, shape, violations
from month2_databases.indexes.wal_records import (
    PageRef,
    WalRecord,
    WalSummary,
    dump,
    read_records,
    summarize,
)

__all__ = [
    "BPlusTree",
    "Capacity",
    "IndexShape",
    "PageFile",
    "PageRef",
    "Plan",
    "PlanNode",
    "Shape",
    "WalRecord",
    "WalSummary",
    "as_text",
    "bulk_load",
    "dump",
    "explain",
    "has_pageinspect",
    "height_for",
    "index_shape",
    "levels_for",
    "read_plan",
    "read_records",
    "shape",
    "summarize",
    "violations",
]
