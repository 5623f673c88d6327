"""Reports for tests: a green one, of which a test changes what it is about."""

from __future__ import annotations

from typing import Any

from month6_capstone.demo.report import Books, Fault, Money, Report, Stock

GREEN: dict[str, Any] = {
    "first_order_s": 20.5,
    "orders": {"confirmed": 9, "payment_failed": 1},
    "books": Books(balanced=True, checked={"charged_once": 9}, violations=[]),
    "money": Money(captured=900, refunded=0, confirmed=900, currency="EUR"),
    "stock": Stock(initial=100, sold=9, held=0, left=91),
    "duplicates": 0,
    "stuck": 0,
    "stale_own_reads": 0,
    "latency_ms": {"p50": 1.0, "p95": 2.0, "p99": 3.0},
    "browse_ms": {"p50": 1.0, "p95": 2.0, "p99": 3.0},
    "orders_per_s": 5.0,
    "cache_hit_ratio": 0.9,
    "rows_per_shard": {"shard-0": 6, "shard-1": 4},
    "reads_per_replica": {"shard-0.replica": 6, "shard-1.replica": 4},
    "events_per_topic": {"orders.order": 20},
    "answers": {"202": 10},
    "seed": 1,
    "memory_mib": {"total": 900, "by_process": {"orders": 70.0}},
    "fault": Fault("SIGKILL", "orders-worker", 3.0, 4.0),
}

VIOLATION = {"rule": "charged_once", "ids": ["order-7"], "detail": "2 charges, expected at most 1"}


def report(**changes: Any) -> Report:
    """A green report with some members changed."""
    return Report(**(GREEN | changes))


def unbalanced() -> Report:
    """A report in which an order was charged twice."""
    books = Books(balanced=False, checked={"charged_once": 9}, violations=[VIOLATION])
    return report(books=books, duplicates=1)
