"""Claims about reading from a plan what became of each partition."""

from __future__ import annotations

from typing import Any

from month2_databases.indexes import read_plan
from month2_databases.partitioning import pruning

PARTITIONS = ("p1", "p2", "p3")


def scan(relation: str, loops: int) -> dict[str, Any]:
    """A node of a plan."""
    return {
        "Node Type": "Seq Scan",
        "Relation Name": relation,
        "Total Cost": 1.0,
        "Plan Rows": 1,
        "Actual Rows": 1,
        "Actual Loops": loops,
    }


def append(*scans: dict[str, Any], removed: int = 0) -> object:
    """A plan of an Append over scans."""
    top = {"Node Type": "Append", "Total Cost": 1.0, "Plan Rows": 1, "Plans": list(scans)}
    return [{"Plan": {**top, "Subplans Removed": removed}}]


def test_what_a_plan_does_not_name_was_left_out_when_planning() -> None:
    """Also where another table is in the plan."""
    found = pruning(read_plan(append(scan("p2", 1), scan("other", 1))), PARTITIONS)
    assert (found.touched, found.when_planning) == (("p2",), ("p1", "p3"))
    assert (found.at_start, found.when_running) == (0, ())


def test_what_was_removed_at_the_start_is_counted() -> None:
    """And not taken for what the planner left out."""
    found = pruning(read_plan(append(scan("p2", 1), removed=2)), PARTITIONS)
    assert (found.touched, found.at_start, found.when_planning) == (("p2",), 2, ())


def test_what_stands_in_the_plan_and_never_ran_was_left_out_when_running() -> None:
    """No loops."""
    found = pruning(read_plan(append(scan("p1", 0), scan("p2", 3), scan("p3", 0))), PARTITIONS)
    assert (found.touched, found.when_running) == (("p2",), ("p1", "p3"))


def test_a_partition_that_is_scanned_twice_is_touched_once() -> None:
    """In one place of the plan it ran, in the other not."""
    found = pruning(read_plan(append(scan("p1", 0), scan("p1", 1))), PARTITIONS)
    assert (found.touched, found.when_running) == (("p1",), ())
