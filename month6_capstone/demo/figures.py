"""The figures of a report that stand in the stores: counted after the run, by plain SQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg

from month6_capstone.demo.report import Money, Stock
from month6_capstone.topology import Addresses


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """What the stores hold. rows_per_shard counts orders."""

    orders: dict[str, int]
    rows_per_shard: dict[str, int]
    money: Money
    stock: Stock


def read_figures(addresses: Addresses) -> StoreFigures:
    """Read them all; each query sees its own server only, so call it when the shop is quiet."""
    states: Counter[str] = Counter()
    rows: dict[str, int] = {}
    confirmed = 0
    currency = "EUR"
    for shard in addresses.shards:
        found = _all(
            shard.primary_dsn,
            "SELECT status, currency, count(*), sum(total_minor)::bigint FROM orders"
            " GROUP BY status, currency",
        )
        rows[shard.name] = sum(row[2] for row in found)
        for status, found_currency, count, total in found:
            states[status] += count
            currency = found_currency
            confirmed += total if status == "confirmed" else 0
    money = _money(addresses.dsns["payments"], confirmed, currency)
    stock = _stock(addresses.dsns["inventory"])
    return StoreFigures(dict(sorted(states.items())), rows, money, stock)


def _money(dsn: str, confirmed: int, currency: str) -> Money:
    found: Mapping[str, int] = dict(
        _all(
            dsn,
            "SELECT e.kind, sum(p.amount_minor)::bigint FROM ledger_entry e"
            " JOIN ledger_posting p USING (entry_id) WHERE p.amount_minor > 0 GROUP BY e.kind",
        )
    )
    return Money(found.get("capture", 0), found.get("refund", 0), confirmed, currency)


def _stock(dsn: str) -> Stock:
    query: LiteralString = (
        "SELECT coalesce(sum(initial), 0)::bigint, coalesce(sum(reserved), 0)::bigint,"
        " coalesce(sum(held), 0)::bigint, coalesce(sum(available), 0)::bigint FROM stock"
    )
    initial, sold, held, left = _all(dsn, query)[0]
    return Stock(initial, sold, held, left)


def open_work(addresses: Addresses) -> int:
    """Sagas that have not ended plus events that are not published: 0 when the shop is quiet."""
    waiting = 0
    for shard in addresses.shards:
        dsn = shard.primary_dsn
        waiting += _one(dsn, "SELECT count(*) FROM saga WHERE ended_at IS NULL")
        waiting += _one(dsn, "SELECT count(*) FROM outbox WHERE sent_at IS NULL")
    for name in ("payments", "inventory"):
        waiting += _one(addresses.dsns[name], "SELECT count(*) FROM outbox WHERE sent_at IS NULL")
    return waiting


def publish_lag_ms(addresses: Addresses) -> list[float]:
    """Milliseconds from commit to acknowledged by Kafka, for every published event, sorted."""
    dsns = [shard.primary_dsn for shard in addresses.shards]
    dsns += [addresses.dsns["payments"], addresses.dsns["inventory"]]
    lags = [
        float(row[0])
        for dsn in dsns
        for row in _all(
            dsn,
            "SELECT extract(epoch FROM sent_at - created_at)::float8 * 1000 FROM outbox"
            " WHERE sent_at IS NOT NULL",
        )
    ]
    return sorted(lags)


def _one(dsn: str, query: LiteralString) -> int:
    return int(_all(dsn, query)[0][0])


def _all(dsn: str, query: LiteralString) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, connect_timeout=5, autocommit=True) as connection:
        return connection.execute(query).fetchall()
