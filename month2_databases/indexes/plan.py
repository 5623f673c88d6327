"""EXPLAIN (FORMAT JSON) as values: which nodes a plan has, what they promised and what they did.

    plan = await explain(conn, "SELECT ... WHERE user_id = %s", (7,), analyze=True)
    plan.scan("orders").kind        "Index Only Scan"
    plan.pages_read                 pages touched by the whole plan, in memory or not

Numbers: `rows_planned` is the estimate per loop, `rows_actual` per loop as measured (None without
ANALYZE); `misestimate` is the larger of the two over the smaller, at least 1.
Source: PostgreSQL documentation, EXPLAIN and "Using EXPLAIN".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, cast

from psycopg import AsyncConnection

from scalelab.errors import InvalidInput, NotFound


@dataclass(frozen=True, slots=True)
class PlanNode:
    """One node and those below it. cost: the planner's unit, one sequential page read.

    shared_pages: buffers hit and read, with what stands below. removed: by the filter, a loop.
    """

    kind: str
    relation: str | None
    index: str | None
    cost: float
    rows_planned: int
    rows_actual: float | None
    loops: int
    shared_pages: int
    heap_fetches: int | None
    removed: int
    subplans_removed: int
    children: tuple[PlanNode, ...]

    @property
    def misestimate(self) -> float:
        """How far the estimate is off, as a factor; 1.0 without ANALYZE."""
        if self.rows_actual is None:
            return 1.0
        planned, actual = max(self.rows_planned, 1), max(self.rows_actual, 1.0)
        return max(planned / actual, actual / planned)

    def walk(self) -> Iterator[PlanNode]:
        """This node and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole plan. execution_ms: None without ANALYZE."""

    root: PlanNode
    execution_ms: float | None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of all nodes, parents first."""
        return tuple(node.kind for node in self.root.walk())

    @property
    def pages_read(self) -> int:
        """Pages of tables and indexes touched, in memory or not; 0 without ANALYZE."""
        return self.root.shared_pages

    @property
    def relations(self) -> tuple[str, ...]:
        """Tables that are scanned, in name order; of a partitioned one, its partitions."""
        return tuple(sorted({n.relation for n in self.root.walk() if n.relation is not None}))

    @property
    def indexes(self) -> tuple[str, ...]:
        """Indexes that are used, in name order."""
        return tuple(sorted({n.index for n in self.root.walk() if n.index is not None}))

    def scan(self, relation: str) -> PlanNode:
        """The first node that scans a table. Raises NotFound."""
        for node in self.root.walk():
            if node.relation == relation:
                return node
        raise NotFound(f"the plan does not touch {relation}: {' > '.join(self.kinds)}")


def read_plan(document: object) -> Plan:
    """What EXPLAIN answered, as text or as parsed JSON. Raises InvalidInput for anything else."""
    if isinstance(document, str | bytes):
        try:
            document = json.loads(document)
        except ValueError as error:
            raise InvalidInput("the plan is no JSON", field="plan") from error
    try:
        (top,) = cast("Sequence[Mapping[str, Any]]", document)
        executed = top.get("Execution Time")
        return Plan(_node(top["Plan"]), None if executed is None else float(executed))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput("this is no EXPLAIN (FORMAT JSON) document", field="plan") from error


async def explain(
    conn: AsyncConnection,
    statement: LiteralString,
    values: Sequence[object] = (),
    *,
    analyze: bool = False,
) -> Plan:
    """Plan a statement; with analyze also run it and count pages. Errors are psycopg's."""
    options = "ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON" if analyze else "FORMAT JSON"
    # Not prepared: a plan made for any value would say nothing about these.
    cursor = await conn.execute(f"EXPLAIN ({options}) {statement}", values, prepare=False)
    row = await cursor.fetchone()
    return read_plan(row[0] if row else None)


def _node(raw: Mapping[str, Any]) -> PlanNode:
    actual = raw.get("Actual Rows")
    fetches = raw.get("Heap Fetches")
    return PlanNode(
        kind=str(raw["Node Type"]),
        relation=raw.get("Relation Name"),
        index=raw.get("Index Name"),
        cost=float(raw["Total Cost"]),
        rows_planned=int(raw["Plan Rows"]),
        rows_actual=None if actual is None else float(actual),
        loops=int(raw.get("Actual Loops", 1)),
        shared_pages=int(raw.get("Shared Hit Blocks", 0)) + int(raw.get("Shared Read Blocks", 0)),
        heap_fetches=None if fetches is None else int(fetches),
        removed=int(raw.get("Rows Removed by Filter", 0)),
        subplans_removed=int(raw.get("Subplans Removed", 0)),
        children=tuple(_node(child) for child in raw.get("Plans", ())),
    )
