"""When is an index worth it? Pages touched by a question, with each kind of index.

A question about a share of the rows is asked with a sequential scan forced, with a plain index scan
forced, and as the planner likes. EXPLAIN counts the pages of table and index that were touched, so
no figure depends on how busy the machine is. Rows that a condition takes lie scattered, except for
the covering index, which needs no row at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg import AsyncConnection

from month2_databases.indexes import Plan, explain
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result, Role
from scalelab.lab.servers import Postgres

SHARES = (0.0001, 0.001, 0.01, 0.1, 0.5)
_SCATTER = 7919
"""A prime: n * 7919 mod rows visits every place once, far from the one before."""

_ASKED: LiteralString = "SELECT sum(total) FROM sale WHERE place < %s"


@dataclass(frozen=True, slots=True)
class _Way:
    """How the question is answered. settings: for this session; index: None for no index."""

    role: Role
    index: LiteralString | None
    settings: tuple[LiteralString, ...]


_WAYS: dict[str, _Way] = {
    "table, page by page": _Way("control", None, ()),
    "index, row by row": _Way(
        "treatment",
        "CREATE INDEX of_place ON sale (place)",
        ("SET enable_seqscan = off", "SET enable_bitmapscan = off"),
    ),
    "index through a bitmap": _Way(
        "treatment",
        "CREATE INDEX of_place ON sale (place)",
        ("SET enable_seqscan = off", "SET enable_indexscan = off"),
    ),
    "covering index": _Way(
        "treatment",
        "CREATE INDEX of_place ON sale (place) INCLUDE (total)",
        ("SET enable_seqscan = off", "SET enable_bitmapscan = off"),
    ),
    "as the planner likes": _Way("treatment", "CREATE INDEX of_place ON sale (place)", ()),
}


def run(lab: Lab) -> Result:
    """All ways, one after the other, on one table."""
    rows = 100_000 if lab.quick else 1_000_000
    server = Postgres("indexing")
    lab.runtime.start(server)
    dsn = server.ensure_database("indexing", "learner")
    plans = asyncio.run(_ask(lab, dsn, rows))
    return judge(plans, rows)


async def _ask(lab: Lab, dsn: str, rows: int) -> dict[str, list[Plan]]:
    found: dict[str, list[Plan]] = {}
    async with await AsyncConnection.connect(dsn, autocommit=True) as conn:
        await conn.execute("DROP TABLE IF EXISTS sale")
        await conn.execute(
            "CREATE TABLE sale AS SELECT n AS id, ((n::bigint * %s) %% %s)::int AS place,"
            " n %% 1000 AS total, repeat('x', 100) AS note FROM generate_series(1, %s) AS n",
            (_SCATTER, rows, rows),
        )
        await conn.execute("SET max_parallel_workers_per_gather = 0")
        for name, way in _WAYS.items():
            await conn.execute("DROP INDEX IF EXISTS of_place")
            if way.index is not None:
                await conn.execute(way.index)
            await conn.execute("VACUUM ANALYZE sale")
            for setting in way.settings:
                await conn.execute(setting)
            limits = [max(1, round(rows * share)) for share in SHARES]
            found[name] = [await explain(conn, _ASKED, (n,), analyze=True) for n in limits]
            await conn.execute("RESET enable_seqscan")
            await conn.execute("RESET enable_indexscan")
            await conn.execute("RESET enable_bitmapscan")
            lab.note(f"{name}: {[plan.pages_read for plan in found[name]]} pages")
    return found


def judge(plans: dict[str, list[Plan]], rows: int) -> Result:
    """The arms, and what is claimed of them."""
    pages = {name: [plan.pages_read for plan in found] for name, found in plans.items()}
    table, by_row = pages["table, page by page"], pages["index, row by row"]
    bitmap, covering = pages["index through a bitmap"], pages["covering index"]
    chosen = [plan.scan("sale").kind for plan in plans["as the planner likes"]]
    shape = (
        Claim(
            "The lines cross: for one row in a thousand the index touches fewer pages than the "
            "table has, for a tenth of the rows more.",
            by_row[1] < table[1] / 5 and by_row[3] > table[3],
            f"{by_row[1]} and {by_row[3]} pages, the table has {table[3]}",
        ),
        Claim(
            "A bitmap never touches a page of the table twice, so it stays below table and index.",
            all(one <= by_row[at] + 1 for at, one in enumerate(bitmap))
            and bitmap[-1] <= 1.5 * table[-1],
            _listed(bitmap),
        ),
        Claim(
            "A covering index touches less than a tenth of the table for a tenth of the rows.",
            covering[3] < table[3] / 10,
            f"{covering[3]} of {table[3]} pages",
        ),
        Claim(
            "The planner takes the index for few rows and the table for half of them.",
            chosen[0] != "Seq Scan" and chosen[-1] == "Seq Scan",
            _listed(chosen),
        ),
        Claim(
            "All ways find the same number of rows.",
            len({tuple(_rows(plan) for plan in found) for found in plans.values()}) == 1,
            _listed([_rows(plan) for plan in plans["covering index"]]),
        ),
    )
    arms = tuple(
        Arm(
            name,
            way.role,
            {f"pages_at_{share:g}": pages[name][at] for at, share in enumerate(SHARES)},
            tuple((share, float(pages[name][at])) for at, share in enumerate(SHARES)),
        )
        for name, way in _WAYS.items()
    )
    return Result(
        arms=arms,
        shape=shape,
        plot=Plot(Axis("share of the rows asked for", log=True), Axis("pages touched", log=True)),
        notes=(
            f"{rows:,} rows of about 140 bytes. A page touched twice counts twice.",
            "Pages are of table and index together, in memory or not.",
        ),
    )


def _rows(plan: Plan) -> int:
    scan = plan.scan("sale")
    return round((scan.rows_actual or 0.0) * scan.loops)


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


EXPERIMENT = Experiment(
    slug="indexing",
    question="From which share of the rows on is an index worse than reading the whole table?",
    varied="the share of rows asked for; the index, and whether it is used",
    fixed="one table, rows scattered over it, pages counted by EXPLAIN",
    run=run,
    topics=("D21",),
    needs=("postgres",),
)
