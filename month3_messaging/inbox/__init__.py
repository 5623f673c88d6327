"""Inbox: each event takes effect once per consumer, by a row in the effect's own transaction."""

from month3_messaging.inbox.postgres import DDL, first_time, purge

__all__ = ["DDL", "first_time", "purge"]
