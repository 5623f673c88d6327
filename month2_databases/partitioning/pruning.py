"""Which partitions a statement touched, read from its plan. Pure.

A partition can be left out at three moments:

    when planning     its bounds contradict the condition's constants; the plan does not name it
    when starting     the value is known only now: a parameter, now(); the plan counts "removed"
    when running      the value comes out of the statement itself; the node stands in the plan and
                      was never executed (0 loops)

Only EXPLAIN ANALYZE tells the last: without it `touched` is what might be touched.
Source: PostgreSQL documentation, "Partition pruning".
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from month2_databases.indexes import Plan


@dataclass(frozen=True, slots=True)
class Pruning:
    """Partitions by what became of them, in name order. at_start: how many, as a plan says."""

    touched: tuple[str, ...]
    when_planning: tuple[str, ...]
    at_start: int
    when_running: tuple[str, ...]


def pruning(plan: Plan, partitions: Collection[str]) -> Pruning:
    """What became of each partition of one table.

    What was removed at the start is named nowhere in a plan, so it is counted, and
    `when_planning` is empty where there is such a count: the two cannot be told apart by name.
    """
    loops: dict[str, int] = {}
    for node in plan.root.walk():
        if node.relation in partitions and node.relation is not None:
            loops[node.relation] = loops.get(node.relation, 0) + node.loops
    at_start = sum(node.subplans_removed for node in plan.root.walk())
    absent = tuple(sorted(set(partitions) - set(loops)))
    return Pruning(
        touched=tuple(sorted(name for name, count in loops.items() if count)),
        when_planning=() if at_start else absent,
        at_start=at_start,
        when_running=tuple(sorted(name for name, count in loops.items() if not count)),
    )
