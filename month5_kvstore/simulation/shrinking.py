"""Shrink a failing plan: leave things out as long as it still breaks the same rule.

Delta debugging over the plan's faults, acts and calls, largest pieces first. A plan is a value, so
each attempt is one run; what is left is the shortest story that was found, not the shortest one
there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from month5_kvstore.simulation.plan import Plan

Breaks = Callable[[Plan], bool]
"""Whether a plan still breaks the rule in question."""

_T = TypeVar("_T")


def shrink(plan: Plan, breaks: Breaks, *, runs_max: int = 300) -> Plan:
    """A plan with as little in it as was found in `runs_max` runs; `plan` itself must break."""
    left = [runs_max]

    def try_it(candidate: Plan) -> bool:
        left[0] -= 1
        return left[0] >= 0 and breaks(candidate)

    before: Plan | None = None
    while plan != before and left[0] > 0:
        before = plan
        plan = _with_less(plan, try_it)
    return plan


def _with_less(plan: Plan, breaks: Breaks) -> Plan:
    """One round over calls, faults, acts and spares."""
    calls = _fewer(plan.calls, lambda some: breaks(replace(plan, calls=some)))
    less = replace(plan, calls=calls)
    faults = _fewer(less.faults, lambda some: breaks(replace(less, faults=some)))
    lesser = replace(less, faults=faults)
    acts = _fewer(lesser.acts, lambda some: breaks(replace(lesser, acts=some)))
    least = replace(lesser, acts=acts)
    alone = replace(least, spares=(), tick_us=least.tick_us[: len(least.voters)])
    if least.spares and not _speaks_of(least, least.spares) and breaks(alone):
        return alone
    return least


def _speaks_of(plan: Plan, nodes: tuple[int, ...]) -> bool:
    """Whether a fault, act or call names one of `nodes`."""
    named = [fault.nodes for fault in plan.faults] + [act.nodes for act in plan.acts]
    return any(set(nodes) & set(some) for some in named) or any(
        call.node in nodes for call in plan.calls
    )


def _fewer(parts: tuple[_T, ...], breaks: Callable[[tuple[_T, ...]], bool]) -> tuple[_T, ...]:
    """`parts` without the pieces that are not needed: halves, quarters, …, single ones."""
    size = len(parts)
    while size >= 1 and parts:
        start = 0
        while start < len(parts):
            rest: Sequence[_T] = (*parts[:start], *parts[start + size :])
            if breaks(tuple(rest)):
                parts = tuple(rest)
            else:
                start += size
        size //= 2
    return parts
