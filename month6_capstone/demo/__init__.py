"""The demo of the shop: start, sell, break one thing, prove the books."""

from __future__ import annotations

from month6_capstone.demo.report import Report, print_report
from month6_capstone.demo.run import (
    DemoOptions,
    Hooks,
    Outcome,
    begin,
    sell_and_judge,
)
from month6_capstone.demo.watch import Watch

__all__ = [
    "DemoOptions",
    "Hooks",
    "Outcome",
    "Report",
    "Watch",
    "begin",
    "print_report",
    "sell_and_judge",
]
