"""All rules over one world: the verdict of `./lab verify`."""

from __future__ import annotations

from month6_capstone.truth.client_rules import check_clients
from month6_capstone.truth.event_rules import check_events, count_events
from month6_capstone.truth.money_rules import check_money
from month6_capstone.truth.order_rules import check_orders
from month6_capstone.truth.records import World
from month6_capstone.truth.stock_rules import check_stock
from scalelab.lab.verify import Report


def judge(world: World) -> Report:
    """Every rule, over plain values. Cost: linear in the number of records."""
    checks = [
        *check_clients(world),
        *check_orders(world),
        *check_money(world),
        *check_stock(world),
        *check_events(world),
    ]
    return Report.of(checks, count_events(world))
