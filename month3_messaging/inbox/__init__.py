"""Inbox: each event takes effect once per consumer, by a row in the effect's own transaction."""

from month3_messaging.inbox.postgres import DDL, FIRST_TIME, first_time, first_times, purge

__all__ = ["DDL", "FIRST_TIME", "first_time", "first_times", "purge"]
