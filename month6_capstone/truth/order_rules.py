"""Orders against themselves: each ended, in a state that its history reaches by legal steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Set

from month6_capstone.truth.records import HistoryRow, OrderRow, World, unfinished
from scalelab.ids import SLOT_COUNT
from scalelab.lab.verify import Check, at_most_once, contiguous, each, legal_paths, same_items

FIRST = "pending"

STEPS: Mapping[str, Set[str]] = {
    "pending": {"paid", "payment_failed", "cancelled"},
    "paid": {"stock_reserved", "cancelled"},
    "stock_reserved": {"confirmed"},
    "cancelled": {"refunded"},
}
"""From each status, those that may follow it."""

ENDS = frozenset({"confirmed", "payment_failed", "cancelled", "refunded"})
"""Statuses in which an order may rest."""


def _check_slots(world: World) -> list[Check]:
    """Every slot is open on one shard, and every order is on its slot's."""
    owner = {row.slot: row.store for row in world.slots}
    return [
        same_items(
            "slot_has_one_owner",
            range(SLOT_COUNT),
            [row.slot for row in world.slots],
            only_left="no shard has the slot",
            only_right="more than one shard has the slot",
        ),
        each(
            "slot_takes_writes",
            world.slots,
            lambda row: None if row.state == "owned" else f"{row.state}: a move stands still",
            lambda row: (row.store, str(row.slot)),
        ),
        each(
            "order_is_where_its_slot_is",
            world.orders,
            lambda order: _misplaced(order, owner),
            lambda order: (order.order_id,),
        ),
    ]


def _misplaced(order: OrderRow, owner: Mapping[int, str]) -> str | None:
    if order.slot is None:
        return "it says no slot"
    home = owner.get(order.slot)
    return None if home == order.store else f"on {order.store}, and slot {order.slot} on {home}"


def check_orders(world: World) -> list[Check]:
    """All rules over orders, their history and their sagas."""
    rows: defaultdict[str, list[HistoryRow]] = defaultdict(list)
    for row in world.history:
        rows[row.order_id].append(row)
    for path in rows.values():
        path.sort(key=lambda row: row.version)
    still_open = unfinished(world)
    return [
        *_check_slots(world),
        at_most_once(
            "order_on_one_shard", [order.order_id for order in world.orders], what="copies"
        ),
        same_items(
            "order_has_a_saga",
            [order.order_id for order in world.orders],
            [saga.order_id for saga in world.sagas],
            only_left="the order has no saga",
            only_right="a saga without its order",
        ),
        each(
            "order_ended",
            world.orders,
            lambda order: f"stuck in {order.status}" if order.order_id in still_open else None,
            lambda order: (order.order_id,),
        ),
        each(
            "ended_order_rests",
            [order for order in world.orders if order.order_id not in still_open],
            lambda order: None if order.status in ENDS else f"its saga ended in {order.status}",
            lambda order: (order.order_id,),
        ),
        contiguous(
            "history_is_contiguous",
            {order_id: [row.version for row in path] for order_id, path in rows.items()},
            start=1,
        ),
        legal_paths(
            "history_is_legal",
            {order_id: [row.status for row in path] for order_id, path in rows.items()},
            start=FIRST,
            steps=STEPS,
        ),
        same_items(
            "order_is_its_last_history",
            [(order.order_id, order.version, order.status) for order in world.orders],
            [(key, path[-1].version, path[-1].status) for key, path in rows.items()],
            only_left="the order is in a state that its history does not end with",
            only_right="the history ends in a state that the order is not in",
        ),
    ]
