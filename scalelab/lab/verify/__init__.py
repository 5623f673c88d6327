"""Checkers over plain values: what was recorded, judged by rules that know no implementation."""

from scalelab.lab.verify.checks import (
    at_most_once,
    contiguous,
    each,
    equal,
    first_seen_in_order,
    legal_paths,
    same_items,
    subset,
    sums_to_zero,
)
from scalelab.lab.verify.linearizability import Timed, linearizable
from scalelab.lab.verify.report import Check, Report, Violation

__all__ = [
    "Check",
    "Report",
    "Timed",
    "Violation",
    "at_most_once",
    "contiguous",
    "each",
    "equal",
    "first_seen_in_order",
    "legal_paths",
    "linearizable",
    "same_items",
    "subset",
    "sums_to_zero",
]
