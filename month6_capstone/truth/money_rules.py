"""Money: orders against payments against the ledger against the provider's own book."""

from __future__ import annotations

from collections import defaultdict

from month6_capstone.truth.records import OrderRow, PostingRow, World, by_id, unfinished
from scalelab.lab.verify import Check, at_most_once, each, equal, same_items, subset, sums_to_zero

CHARGED = frozenset({"captured", "refunded"})
"""Payment states in which money was taken at some time."""

Moved = tuple[str, int, str]
"""order id, minor units, currency"""


def check_money(world: World) -> list[Check]:
    """All rules about money. Unfinished orders are left to `order_ended`."""
    return [*_ledger_alone(world), *_ledger_and_book(world), *_orders_and_ledger(world)]


def _ledger_alone(world: World) -> list[Check]:
    entries: defaultdict[str, list[int]] = defaultdict(list)
    currencies: defaultdict[str, list[int]] = defaultdict(list)
    for posting in world.postings:
        entries[posting.entry_id].append(posting.amount_minor)
        currencies[posting.currency].append(posting.amount_minor)
    captures, refunds = _moved(world, "capture"), _moved(world, "refund")
    expected: list[tuple[str, str]] = []
    for payment in world.payments:
        expected += [(payment.order_id, "capture")] if payment.status in CHARGED else []
        expected += [(payment.order_id, "refund")] if payment.status == "refunded" else []
    return [
        sums_to_zero("ledger_entry_balances", entries, what="postings"),
        sums_to_zero("ledger_balances", currencies, what="all postings"),
        each(
            "ledger_entry_is_whole",
            world.postings,
            lambda posting: None if posting.account is not None else "an entry without postings",
            lambda posting: (posting.entry_id, posting.order_id),
        ),
        same_items(
            "payment_is_in_ledger",
            expected,
            [(order, "capture") for order, *_ in captures]
            + [(order, "refund") for order, *_ in refunds],
            only_left="the payment says so, the ledger has no such entry",
            only_right="the ledger has an entry that the payment's state does not explain",
        ),
    ]


def _ledger_and_book(world: World) -> list[Check]:
    charges = [line for line in world.book if line.kind == "charge"]
    refunds = [line for line in world.book if line.kind == "refund"]
    recorded = [
        (payment.order_id, payment.charge_id)
        for payment in world.payments
        if payment.charge_id is not None
    ]
    return [
        at_most_once("charged_once", [line.order_id for line in charges], what="charges"),
        at_most_once("refunded_once", [line.order_id for line in refunds], what="refunds"),
        same_items(
            "capture_is_a_charge",
            _moved(world, "capture"),
            [(line.order_id, line.amount_minor, line.currency) for line in charges],
            only_left="our ledger has a capture that the provider never charged",
            only_right="the provider charged what our ledger does not have",
        ),
        same_items(
            "refund_is_paid_back",
            _moved(world, "refund"),
            [(line.order_id, line.amount_minor, line.currency) for line in refunds],
            only_left="our ledger has a refund that the provider never paid",
            only_right="the provider paid back what our ledger does not have",
        ),
        subset(
            "payment_names_its_charge",
            recorded,
            {(line.order_id, line.charge_id) for line in charges},
            detail="the payment names a charge that is not in the book",
        ),
        subset(
            "charge_has_an_order",
            [line.order_id for line in charges],
            by_id(world).keys(),
            detail="the provider charged an order that does not exist",
        ),
        _book_has_no_gap(world),
    ]


def _orders_and_ledger(world: World) -> list[Check]:
    orders = by_id(world)
    still_open = unfinished(world)
    net: defaultdict[tuple[str, str], int] = defaultdict(int)
    for sign, kind in ((1, "capture"), (-1, "refund")):
        for order_id, amount_minor, currency in _moved(world, kind):
            if order_id not in still_open:
                net[order_id, currency] += sign * amount_minor
    owed = {
        (order.order_id, order.currency): order.total_minor
        for order in world.orders
        if order.status == "confirmed" and order.order_id not in still_open
    }
    return [
        equal(
            "order_money_is_right",
            {key: amount for key, amount in net.items() if amount},
            owed,
            zero=0,
            what="minor units kept against the total of a confirmed order",
        ),
        equal(
            "captured_minus_refunded_is_confirmed",
            _per_currency(net),
            _per_currency(owed),
            zero=0,
            what="minor units kept against the totals of all confirmed orders",
        ),
        each(
            "captured_the_total",
            [moved for moved in _moved(world, "capture") if moved[0] in orders],
            lambda moved: _other_total(orders[moved[0]], moved),
            lambda moved: (moved[0],),
        ),
    ]


def _other_total(order: OrderRow, moved: Moved) -> str | None:
    if (order.total_minor, order.currency) == moved[1:]:
        return None
    return f"captured {moved[1]} {moved[2]} of a total of {order.total_minor} {order.currency}"


def _book_has_no_gap(world: World) -> Check:
    numbers = [line.seq for line in world.book]
    return equal(
        "book_has_no_gap",
        dict(enumerate(numbers, start=1)),
        {number: number for number in range(1, len(numbers) + 1)},
        zero=0,
        what="line number",
    )


def _moved(world: World, kind: str) -> list[Moved]:
    """Per entry of `kind`: how much moved, which is the sum of its debits."""
    amounts: dict[str, int] = {}
    first: dict[str, PostingRow] = {}
    for posting in world.postings:
        if posting.kind == kind:
            first.setdefault(posting.entry_id, posting)
            debit = max(0, posting.amount_minor)
            amounts[posting.entry_id] = amounts.get(posting.entry_id, 0) + debit
    return [
        (posting.order_id, amounts[entry_id], posting.currency)
        for entry_id, posting in first.items()
    ]


def _per_currency(amounts: dict[tuple[str, str], int]) -> dict[str, int]:
    totals: defaultdict[str, int] = defaultdict(int)
    for (_order_id, currency), amount_minor in amounts.items():
        totals[currency] += amount_minor
    return {currency: total for currency, total in totals.items() if total}
