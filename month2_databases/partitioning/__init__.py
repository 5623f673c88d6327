"""Partitioning within one server: rows by time, columns by how often they are asked for."""

from month2_databases.partitioning.postgres_bounds import read_bounds
from month2_databases.partitioning.postgres_table import Layout, PartitionedTable, Report
from month2_databases.partitioning.pruning import Pruning, pruning
from month2_databases.partitioning.time_partitions import (
    Cadence,
    Changes,
    Partition,
    Policy,
    Span,
    changes,
    cut_off,
    name_of,
    required,
)
from month2_databases.partitioning.vertical_split import COLD, HOT, SCHEMA, VIEW

__all__ = [
    "COLD",
    "HOT",
    "SCHEMA",
    "VIEW",
    "Cadence",
    "Changes",
    "Layout",
    "Partition",
    "PartitionedTable",
    "Policy",
    "Pruning",
    "Report",
    "Span",
    "changes",
    "cut_off",
    "name_of",
    "pruning",
    "read_bounds",
    "required",
]
