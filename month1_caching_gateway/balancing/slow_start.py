"""Slow start: who comes back gets its share little by little. Pure.

A process that has just started has empty caches, no connections and unoptimised code; the full
load at once can knock it down again. Its weight climbs in a straight line from `FLOOR` of its own
weight to all of it in `slow_start_s` seconds after its return.

Invariant (tests cite it)
    I1  The weight never falls while time passes, lies in FLOOR * weight .. weight, and is exactly
        `weight` from `slow_start_s` on.
"""

from __future__ import annotations

FLOOR = 0.1
"""The share it begins with: enough to be judged by, too little to be hurt by."""


def ramped_weight(
    weight: float, *, away_ended_s: float, slow_start_s: float, now_s: float
) -> float:
    """What an endpoint of `weight` weighs now. away_ended_s: when it came back (or came new)."""
    if slow_start_s <= 0 or now_s - away_ended_s >= slow_start_s:
        return weight
    grown = max(0.0, now_s - away_ended_s) / slow_start_s
    return weight * max(FLOOR, grown)
