"""The order model in other stores: on a Cassandra ring, a table for each question."""

from month2_databases.models.cassandra import (
    TABLES,
    Line,
    OrderHead,
    OrderTables,
    RingOrder,
    whole_milliseconds,
)

__all__ = ["TABLES", "Line", "OrderHead", "OrderTables", "RingOrder", "whole_milliseconds"]
