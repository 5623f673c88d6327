"""The verdict on real stores: a shop at rest balances, and each planted error is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import uuid4

import pytest

from month6_capstone.truth import TruthSettings, collect, judge
from scalelab.clients.kafka import Message
from scalelab.errors import Unavailable
from scalelab.lab.verify import Report


class Stores(Protocol):
    """The fixture's face; see conftest.py."""

    orders: dict[str, str]
    settings: TruthSettings
    records: list[Message]

    def run(self, database: str, statement: str, *parameters: object) -> None: ...
    def shard_of(self, order: str) -> str: ...
    async def publish(self, records: list[Message]) -> None: ...


async def verdict(stores: Stores) -> Report:
    await stores.publish(stores.records)
    return judge(await collect(stores.settings))


async def test_a_shop_at_rest_balances(stores: Stores) -> None:
    """Every end an order can have, through the real use cases; duplicates are only counted."""
    stores.records.append(stores.records[0])
    report = await verdict(stores)
    assert report.violations == ()
    assert report.checked["order_ended"] == len(stores.orders) == 6
    assert report.checked["accepted_order_exists"] == 5
    assert report.checked["requests_of_unknown_outcome"] == 1
    assert report.checked["capture_is_a_charge"] == 5
    assert report.checked["refund_is_paid_back"] == 2
    assert report.counted["duplicate_events"] == 1
    assert {rule for rule, examined in report.checked.items() if not examined} <= {
        "refused_request_left_nothing",
        "expired_hold_is_swept",
    }


@dataclass(frozen=True)
class Plant:
    """An error: how it is planted, which rules must be broken, which order must be named."""

    plant: Callable[[Stores], None]
    rules: set[str]
    order: str | None = None


def _book(stores: Stores, **changed: Any) -> None:
    """Append a line to the provider's book like its last charge."""
    path = stores.settings.book_path
    lines = [json.loads(raw) for raw in path.read_text().splitlines()]
    charge = next(line for line in lines if line["order_id"] == stores.orders["sold"])
    with path.open("a") as file:
        file.write(json.dumps(charge | {"seq": len(lines) + 1} | changed) + "\n")


def _unbook(stores: Stores, kind: str, order: str) -> None:
    path = stores.settings.book_path
    kept = [
        raw
        for raw in path.read_text().splitlines()
        if (json.loads(raw)["kind"], json.loads(raw)["order_id"]) != (kind, stores.orders[order])
    ]
    path.write_text("".join(raw + "\n" for raw in kept))


def _sql(database: str, statement: str, order: str) -> Callable[[Stores], None]:
    def plant(stores: Stores) -> None:
        name = stores.shard_of(order) if database == "shard" else database
        stores.run(name, statement, stores.orders[order])

    return plant


def _unchecked(table: str, constraint: str, then: Callable[[Stores], None]) -> Any:
    def plant(stores: Stores) -> None:
        stores.run("inventory", f"ALTER TABLE {table} DROP CONSTRAINT {constraint}")
        then(stores)

    return plant


def _of(stores: Stores, order: str, kind: str) -> int:
    return next(
        at
        for at, record in enumerate(stores.records)
        if record.key == stores.orders[order] and record.headers["ce_type"].endswith(f".{kind}.v1")
    )


def _lose_event(stores: Stores) -> None:
    del stores.records[_of(stores, "sold", "paid")]


def _swap_events(stores: Stores) -> None:
    first, second = _of(stores, "sold", "placed"), _of(stores, "sold", "paid")
    records = stores.records
    records[first], records[second] = records[second], records[first]


def _forge_event(stores: Stores) -> None:
    model = stores.records[_of(stores, "sold", "confirmed")]
    stores.records.append(replace(model, headers={**model.headers, "ce_id": str(uuid4())}))


def _forge_log(stores: Stores) -> None:
    """A shopper was told of an order that is not there."""
    path = stores.settings.client_log
    assert path is not None
    told = json.loads(path.read_text().splitlines()[0])
    with path.open("a") as file:
        file.write(json.dumps(told | {"key": "lost", "order_id": str(uuid4())}) + "\n")


def _forget_log(stores: Stores) -> None:
    path = stores.settings.client_log
    assert path is not None
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{raw}\n" for raw in lines if stores.orders["sold"] not in raw))


PLANTS = {
    "lost order": Plant(_forge_log, {"accepted_order_exists"}),
    "order nobody asked for": Plant(_forget_log, {"order_was_asked_for"}, "sold"),
    "double order": Plant(
        _sql(
            "shard",
            "INSERT INTO orders SELECT gen_random_uuid(), user_id, status, version, lines,"
            " total_minor, currency, hold_id, placed_at, updated_at FROM orders"
            " WHERE order_id = %s",
            "sold",
        ),
        {"one_order_per_request", "order_was_answered", "order_has_a_saga"},
    ),
    "stuck order": Plant(
        _sql("shard", "UPDATE saga SET ended_at = NULL WHERE order_id = %s", "sold"),
        {"order_ended"},
        "sold",
    ),
    "torn history": Plant(
        _sql("shard", "DELETE FROM order_history WHERE version = 2 AND order_id = %s", "sold"),
        {"history_is_contiguous", "history_is_legal"},
        "sold",
    ),
    "status without its history": Plant(
        _sql("shard", "UPDATE orders SET status = 'confirmed' WHERE order_id = %s", "declined"),
        {"order_is_its_last_history", "order_money_is_right", "confirmed_order_has_its_stock"},
        "declined",
    ),
    "double charge": Plant(
        lambda stores: _book(stores, key="another", charge_id="ch_again"),
        {"charged_once", "capture_is_a_charge"},
        "sold",
    ),
    "charge of an unknown order": Plant(
        lambda stores: _book(stores, key="ghost", order_id=str(uuid4()), charge_id="ch_ghost"),
        {"charge_has_an_order", "capture_is_a_charge"},
    ),
    "capture that was never charged": Plant(
        lambda stores: _unbook(stores, "charge", "sold"),
        {"capture_is_a_charge", "payment_names_its_charge", "book_has_no_gap"},
        "sold",
    ),
    "refund that was never paid": Plant(
        lambda stores: _unbook(stores, "refund", "sold_out"),
        {"refund_is_paid_back"},
        "sold_out",
    ),
    "ledger out of balance": Plant(
        _sql(
            "payments",
            "UPDATE ledger_posting SET amount_minor = amount_minor - 1"
            " WHERE account = 'assets:provider' AND entry_id ="
            " (SELECT entry_id FROM ledger_entry WHERE order_id = %s)",
            "sold",
        ),
        {"ledger_entry_balances", "ledger_balances", "capture_is_a_charge"},
        "sold",
    ),
    "refund that is not booked": Plant(
        _sql(
            "payments",
            "WITH gone AS (DELETE FROM ledger_entry WHERE kind = 'refund' AND order_id = %s"
            " RETURNING entry_id) DELETE FROM ledger_posting USING gone"
            " WHERE ledger_posting.entry_id = gone.entry_id",
            "sold_out",
        ),
        {"payment_is_in_ledger", "refund_is_paid_back", "captured_minus_refunded_is_confirmed"},
        "sold_out",
    ),
    "oversell": Plant(
        _sql("inventory", "UPDATE hold SET state = 'expired' WHERE order_id = %s", "sold"),
        {"confirmed_order_has_its_stock", "reserved_is_accounted_for"},
        "sold",
    ),
    "stock out of nowhere": Plant(
        _unchecked(
            "stock",
            "stock_is_conserved",
            lambda stores: stores.run(
                "inventory", "UPDATE stock SET available = available + 1 WHERE product_id = 'p-1'"
            ),
        ),
        {"stock_is_conserved"},
    ),
    "negative stock": Plant(
        _unchecked(
            "stock",
            "stock_available_check",
            lambda stores: stores.run(
                "inventory",
                "UPDATE stock SET initial = initial - available - 1, available = -1"
                " WHERE product_id = 'p-1'",
            ),
        ),
        {"stock_is_not_negative"},
    ),
    "leaked hold": Plant(
        _sql(
            "inventory",
            "UPDATE hold SET state = 'held', expires_at = now() + interval '1 h'"
            " WHERE order_id = %s",
            "declined",
        ),
        {"ended_order_holds_nothing"},
        "declined",
    ),
    "expired and not swept": Plant(
        lambda stores: stores.run(
            "inventory",
            "INSERT INTO hold VALUES (gen_random_uuid(), 'eve', NULL, 'held',"
            " now() - interval '1 h', now(), now())",
        ),
        {"expired_hold_is_swept"},
    ),
    "missing event": Plant(_lose_event, {"committed_event_is_published", "effect_has_its_event"}),
    "unsent event": Plant(
        lambda stores: stores.run(
            stores.shard_of("sold"),
            "INSERT INTO outbox (event_id, topic, key, type, headers, value)"
            " VALUES (gen_random_uuid(), 'orders.order', 'k', 't', '{}', '{}')",
        ),
        {"committed_event_is_published"},
    ),
    "orphan event": Plant(_forge_event, {"published_event_was_committed"}, "sold"),
    "events out of order": Plant(_swap_events, {"order_per_key"}, "sold"),
    "event without effect": Plant(
        _sql(
            "shard",
            "DELETE FROM inbox WHERE event_id IN"
            " (SELECT event_id FROM order_history WHERE order_id = %s)",
            "sold",
        ),
        {"published_event_took_effect"},
    ),
    "effect without event": Plant(
        lambda stores: stores.run(
            "payments", "INSERT INTO inbox VALUES ('payments', gen_random_uuid())"
        ),
        {"effect_has_its_event"},
    ),
}


@pytest.mark.parametrize("name", PLANTS)
async def test_a_planted_error_is_found(stores: Stores, name: str) -> None:
    """By the rules that must see it, with the order at fault among the ids."""
    error = PLANTS[name]
    error.plant(stores)
    report = await verdict(stores)
    assert {violation.rule for violation in report.violations} >= error.rules
    if error.order is not None:
        named = {one for violation in report.violations for one in violation.ids}
        assert stores.orders[error.order] in named


async def test_a_store_that_cannot_be_read_is_named(stores: Stores) -> None:
    """No verdict is given on half of the evidence."""
    settings = replace(stores.settings, payments="postgresql://nobody@127.0.0.1:9/payments")
    with pytest.raises(Unavailable, match="payments"):
        await collect(settings)


async def test_an_empty_shop_balances(stores: Stores) -> None:
    """Topics without records, no book, no log: nothing to disagree about."""
    for name in ("shard-0", "shard-1"):
        stores.run(name, "TRUNCATE orders, order_history, saga, outbox, inbox, idempotency_key")
    stores.run("payments", "TRUNCATE payment, ledger_entry, ledger_posting, outbox, inbox")
    stores.run("inventory", "TRUNCATE hold, hold_line, stock, outbox, inbox")
    missing = stores.settings.book_path.with_name("none")
    stores.settings = replace(stores.settings, book_path=missing, client_log=None)
    report = judge(await collect(stores.settings))
    assert report.balanced
