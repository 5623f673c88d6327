"""Stock: pieces are conserved, holds account for all that is out, orders account for the holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta

from month6_capstone.truth.records import HoldRow, OrderRow, StockRow, World, by_id, unfinished
from scalelab.lab.verify import Check, each, equal

SWEEP_GRACE_S = 5.0
"""How long past its end a hold may wait for the sweeper."""


def check_stock(world: World) -> list[Check]:
    """All rules about stock. Unfinished orders are left to `order_ended`."""
    holds = {hold.hold_id: hold for hold in world.holds}
    orders = by_id(world)
    still_open = unfinished(world)
    finished = [order for order in world.orders if order.order_id not in still_open]
    late = world.taken_at - timedelta(seconds=SWEEP_GRACE_S)
    return [
        each("stock_is_not_negative", world.stock, _negative, lambda row: (row.product_id,)),
        each("stock_is_conserved", world.stock, _not_conserved, lambda row: (row.product_id,)),
        equal(
            "held_is_accounted_for",
            {row.product_id: row.held for row in world.stock},
            _pieces(world, "held"),
            zero=0,
            what="pieces held against the lines of held holds",
        ),
        equal(
            "reserved_is_accounted_for",
            {row.product_id: row.reserved for row in world.stock},
            _pieces(world, "reserved"),
            zero=0,
            what="pieces reserved against the lines of reserved holds",
        ),
        each(
            "confirmed_order_has_its_stock",
            [order for order in finished if order.status == "confirmed"],
            lambda order: _not_reserved(order, holds.get(order.hold_id)),
            lambda order: (order.order_id, order.hold_id),
        ),
        each(
            "reserved_hold_is_sold",
            [hold for hold in world.holds if hold.state == "reserved"],
            lambda hold: _not_sold(hold, orders, still_open),
            lambda hold: (hold.hold_id, hold.order_id or ""),
        ),
        each(
            "ended_order_holds_nothing",
            [order for order in finished if order.status != "confirmed"],
            lambda order: _leaked(holds.get(order.hold_id)),
            lambda order: (order.order_id, order.hold_id),
        ),
        each(
            "expired_hold_is_swept",
            [hold for hold in world.holds if hold.state == "held"],
            lambda hold: (
                f"held since it ended at {hold.expires_at}"
                if hold.expires_at is None or hold.expires_at < late
                else None
            ),
            lambda hold: (hold.hold_id,),
        ),
    ]


def _pieces(world: World, state: str) -> dict[str, int]:
    totals: defaultdict[str, int] = defaultdict(int)
    for hold in world.holds:
        if hold.state == state:
            for product_id, quantity in hold.lines:
                totals[product_id] += quantity
    return dict(totals)


def _negative(row: StockRow) -> str | None:
    if min(row.available, row.held, row.reserved) >= 0:
        return None
    return f"available {row.available}, held {row.held}, reserved {row.reserved}"


def _not_conserved(row: StockRow) -> str | None:
    parts = row.available + row.held + row.reserved
    return None if parts == row.initial else f"{parts} pieces of {row.initial}"


def _not_reserved(order: OrderRow, hold: HoldRow | None) -> str | None:
    if hold is None or hold.state != "reserved":
        return f"confirmed, but its hold is {hold.state if hold else 'unknown'}"
    if hold.order_id != order.order_id:
        return f"its hold is reserved for order {hold.order_id}"
    return None if hold.lines == order.lines else f"ordered {order.lines}, reserved {hold.lines}"


def _not_sold(
    hold: HoldRow, orders: Mapping[str, OrderRow], still_open: frozenset[str]
) -> str | None:
    order = orders.get(hold.order_id or "")
    if order is None:
        return "reserved for an order that does not exist"
    if order.order_id in still_open or order.status == "confirmed":
        return None
    return f"reserved for an order that is {order.status}"


def _leaked(hold: HoldRow | None) -> str | None:
    if hold is None or hold.state in ("released", "expired"):
        return None
    return f"the order is over, its hold is still {hold.state}"
