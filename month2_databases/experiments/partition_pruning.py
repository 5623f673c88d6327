"""What do partitions by time save, and whom? Pages touched, and the log written to forget a month.

A year of sales stands in one table without an index on time, in one with such an index, and in
twelve partitions. All are asked the same questions, with the time in the condition and without it;
EXPLAIN counts pages and names partitions. Then January goes: by DELETE, and by retention, and the
server says how many bytes of log that took. At last wide rows are split into hot and cold columns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import LiteralString

from psycopg import AsyncConnection, sql

from month2_databases.indexes import Plan, explain
from month2_databases.partitioning import (
    COLD,
    HOT,
    SCHEMA,
    VIEW,
    Cadence,
    PartitionedTable,
    Policy,
    Pruning,
    name_of,
    pruning,
)
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result, Role
from scalelab.lab.servers import Postgres

MONTHS = 12
ASKED = (1, 2, 3, 6, 12)
"""Months of the year that a question is about."""
PARTITIONED = "by month"
_TABLES: dict[str, tuple[Role, LiteralString]] = {
    "one table": ("control", "plain"),
    "one table, index on time": ("control", "indexed"),
    PARTITIONED: ("treatment", "sale"),
}
_SPANS = tuple(Cadence.MONTH.span_of(datetime(2026, m, 1, tzinfo=UTC)) for m in range(1, 13))
_NAMES = tuple(name_of("sale", span) for span in _SPANS)
_JUNE = datetime(2026, 6, 15, tzinfo=UTC)
_WIDE_ROWS = 4_000
# No checkpoint while it runs, so no page images in the log: only what each way itself writes.
_SETTINGS = {
    "fsync": "off",
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "max_wal_size": "8GB",
    "max_parallel_workers_per_gather": "0",
}
_COLUMNS: LiteralString = "(id bigint, at timestamptz NOT NULL, total int NOT NULL, note text"
_MAKE: tuple[LiteralString, ...] = (
    f"CREATE TABLE plain {_COLUMNS}, PRIMARY KEY (id))",
    f"CREATE TABLE indexed {_COLUMNS}, PRIMARY KEY (id))",
    "CREATE INDEX of_time ON indexed (at)",
    f"CREATE TABLE sale {_COLUMNS}, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
)
_FILL: LiteralString = (
    "INSERT INTO {} SELECT n, timestamptz '2026-01-01Z' + n * (interval '365 days' / %s::int),"
    " n %% 1000, repeat('x', 100) FROM generate_series(0, %s::int - 1) AS n"
)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """January's end. wal: bytes of log. freed: bytes the table gave back. rows: that went."""

    wal: int
    freed: int
    rows: int


@dataclass(frozen=True, slots=True)
class Seen:
    """pages: by arm, for each of ASKED. by_id: pages by arm. touched: partitions for each of
    ASKED. forgotten: by way and rows a month. split: pages of all prices, wide and split."""

    pages: Mapping[str, tuple[int, ...]]
    by_id: Mapping[str, int]
    touched: tuple[int, ...]
    at_start: Pruning
    when_running: Pruning
    without_key: Pruning
    forgotten: Mapping[str, tuple[Forgotten, Forgotten]]
    split: tuple[int, int]
    split_relations: tuple[str, ...]


def run(lab: Lab) -> Result:
    """Two sizes, one after the other: what grows with the rows is told from what does not."""
    small = 2_500 if lab.quick else 50_000
    server = Postgres("partitions", settings=_SETTINGS)
    lab.runtime.start(server)
    seen = asyncio.run(_measure(lab, server, small))
    return judge(seen, small)


async def _measure(lab: Lab, server: Postgres, small: int) -> Seen:
    forgotten: dict[str, list[Forgotten]] = {"DELETE": [], "retention": []}
    seen = None
    for rows in (small, 2 * small):
        name = f"year_{rows}"
        dsn = await asyncio.to_thread(server.ensure_database, name, "learner")
        settings = PostgresSettings(dsn, statement_timeout_s=300.0, transaction_timeout_s=300.0)
        async with (
            Database(settings, name=name) as database,
            await AsyncConnection.connect(dsn, autocommit=True) as conn,
        ):
            table = PartitionedTable(database, "sale", Policy(Cadence.MONTH, ahead=1, keep=4))
            await _fill(conn, table, rows * MONTHS)
            if rows != small:
                seen = await _ask(conn)
            for way, found in forgotten.items():
                found.append(await _forget(conn, table, way))
                lab.note(f"{rows} rows a month, {way}: {found[-1]}")
    assert seen is not None
    pages, by_id, touched, pruned, split = seen
    return Seen(
        pages,
        by_id,
        touched,
        *pruned,
        {way: (found[0], found[1]) for way, found in forgotten.items()},
        (split[0].pages_read, split[1].pages_read),
        split[1].relations,
    )


async def _fill(conn: AsyncConnection, table: PartitionedTable, rows: int) -> None:
    for statement in _MAKE:
        await conn.execute(statement)
    for span in _SPANS:
        await table.create(span)
    for _, name in _TABLES.values():
        await conn.execute(sql.SQL(_FILL).format(sql.Identifier(name)), (rows, rows))
    await conn.execute(SCHEMA)
    await conn.execute(
        "INSERT INTO product SELECT n, 100, 1, repeat('x', 1000) FROM generate_series(1, %s) AS n",
        (_WIDE_ROWS,),
    )
    await conn.execute("CREATE TABLE wide AS SELECT * FROM product")
    await conn.execute("VACUUM ANALYZE")


Answers = tuple[
    dict[str, tuple[int, ...]],
    dict[str, int],
    tuple[int, ...],
    tuple[Pruning, Pruning, Pruning],
    tuple[Plan, Plan],
]


async def _ask(conn: AsyncConnection) -> Answers:
    pages: dict[str, tuple[int, ...]] = {}
    by_id: dict[str, int] = {}
    touched: tuple[int, ...] = ()
    for arm, (_, name) in _TABLES.items():
        until: LiteralString = f"SELECT sum(total) FROM {name} WHERE at < %s"  # noqa: S608 -- ours
        plans = [
            await explain(conn, until, (_SPANS[months - 1].end,), analyze=True) for months in ASKED
        ]
        pages[arm] = tuple(plan.pages_read for plan in plans)
        alone: LiteralString = f"SELECT total FROM {name} WHERE id = 7"  # noqa: S608 -- ours
        await explain(conn, alone, analyze=True)  # the first reads each index's first page too
        by_id[arm] = (await explain(conn, alone, analyze=True)).pages_read
        if arm == PARTITIONED:
            touched = tuple(len(pruning(plan, _NAMES).touched) for plan in plans)
    await conn.execute("SET plan_cache_mode = force_generic_plan")
    await conn.execute("PREPARE of_day AS SELECT count(*) FROM sale WHERE at = $1")
    prepared = await explain(conn, "EXECUTE of_day ('2026-06-10Z')", analyze=True)
    inner: LiteralString = "SELECT count(*) FROM sale WHERE at = (SELECT max(at) FROM plain)"
    found = await explain(conn, inner, analyze=True)
    without = await explain(conn, "SELECT sum(total) FROM sale WHERE id = 7", analyze=True)
    pruned = tuple(pruning(plan, _NAMES) for plan in (prepared, found, without))
    prices: LiteralString = "SELECT sum(price_cents) FROM "
    split = [await explain(conn, prices + name, analyze=True) for name in ("wide", VIEW)]
    return pages, by_id, touched, (pruned[0], pruned[1], pruned[2]), (split[0], split[1])


async def _forget(conn: AsyncConnection, table: PartitionedTable, way: str) -> Forgotten:
    """Let January go."""
    relation = "plain" if way == "DELETE" else "sale"
    before = await _standing(conn, relation)
    if way == "DELETE":
        await conn.execute("DELETE FROM plain WHERE at < %s", (_SPANS[0].end,))
    else:
        await table.maintain(_JUNE)
    after = await _standing(conn, relation)
    return Forgotten(after[0] - before[0], before[1] - after[1], before[2] - after[2])


async def _standing(conn: AsyncConnection, relation: LiteralString) -> tuple[int, int, int]:
    """Bytes of log so far, bytes of the table, its rows."""
    cursor = await conn.execute(
        "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, pg_relation_size(%s::regclass)"
        " + coalesce(sum(pg_relation_size(inhrelid)), 0)::bigint"
        " FROM pg_inherits WHERE inhparent = %s::regclass",
        (relation, relation),
    )
    log, size = await cursor.fetchone() or (0, 0)
    count = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(relation))
    (rows,) = await (await conn.execute(count)).fetchone() or (0,)
    return log, size, rows


def judge(seen: Seen, small: int) -> Result:
    """The arms, and what is claimed of them."""
    plain, parts = seen.pages["one table"], seen.pages[PARTITIONED]
    indexed = seen.pages["one table, index on time"]
    line = tuple(plain[-1] * months / MONTHS for months in ASKED)
    return Result(
        arms=_arms(seen, line),
        shape=(
            Claim(
                "Whoever says the time touches the partitions of that time and no other.",
                seen.touched == ASKED,
                f"partitions for {ASKED} months: {seen.touched}",
            ),
            Claim(
                "Their pages are the asked share of the table.",
                all(0.8 * n <= p <= 1.2 * n for p, n in zip(parts, line, strict=True)),
                f"{parts}, theory {tuple(map(round, line))}",
            ),
            *_claims_of_moments(seen),
            Claim(
                "Where rows lie in order of time an index on it touches about as few pages.",
                indexed[0] <= 1.5 * parts[0] and indexed[0] < plain[0] / 5,
                f"{indexed[0]} pages, partitions {parts[0]}, the table {plain[0]}",
            ),
            *_claims_of_forgetting(seen),
            Claim(
                "Split by columns, all prices are in less than a tenth of the pages.",
                seen.split[1] < seen.split[0] / 10 and seen.split_relations == (HOT,),
                f"{seen.split[1]} of {seen.split[0]} pages; the view reads {HOT}, not {COLD}",
            ),
        ),
        plot=Plot(Axis("months asked for, of 12"), Axis("pages touched")),
        notes=(
            f"{2 * small:,} sales a month, about 150 bytes each, stored in order of time.",
            "No checkpoint falls into the measuring: after one, DELETE would also log an image of"
            " each page it touches.",
        ),
    )


def _arms(seen: Seen, line: tuple[float, ...]) -> tuple[Arm, ...]:
    arms = [
        Arm(
            name,
            role,
            {
                **{f"pages_{m}_months": n for m, n in zip(ASKED, seen.pages[name], strict=True)},
                "pages_by_id": seen.by_id[name],
            },
            tuple((float(m), float(n)) for m, n in zip(ASKED, seen.pages[name], strict=True)),
        )
        for name, (role, _) in _TABLES.items()
    ]
    arms.append(
        Arm(
            "the asked share of the table",
            "theory",
            {},
            tuple((float(m), n) for m, n in zip(ASKED, line, strict=True)),
        )
    )
    arms += [
        Arm(
            f"January, by {way}",
            "control" if way == "DELETE" else "treatment",
            {"wal_bytes": large.wal, "freed_bytes": large.freed, "rows": large.rows},
        )
        for way, (_, large) in seen.forgotten.items()
    ]
    return tuple(arms)


def _claims_of_moments(seen: Seen) -> tuple[Claim, Claim]:
    one, all_parts = seen.by_id["one table"], seen.by_id[PARTITIONED]
    others = MONTHS - 1
    return (
        Claim(
            "A value that is known later leaves partitions out later: when starting or running.",
            seen.at_start.at_start == others and len(seen.when_running.when_running) == others,
            f"{seen.at_start.at_start} removed at the start of a prepared statement,"
            f" {len(seen.when_running.when_running)} never run beside a subquery",
        ),
        Claim(
            "Whoever does not say it pays for every partition.",
            seen.without_key.touched == tuple(sorted(_NAMES)) and all_parts >= 6 * one,
            f"by id: {all_parts} pages in {len(seen.without_key.touched)} partitions, {one} in one"
            " table",
        ),
    )


def _claims_of_forgetting(seen: Seen) -> tuple[Claim, Claim, Claim]:
    deleted, dropped = seen.forgotten["DELETE"], seen.forgotten["retention"]
    growth = [large.wal / little.wal for little, large in (deleted, dropped)]
    return (
        Claim(
            "A DELETE logs every row, so twice the rows are twice the log; a DROP does not care.",
            1.7 <= growth[0] <= 2.3 and growth[1] <= 1.3,
            f"times {growth[0]:.2f} and times {growth[1]:.2f}",
        ),
        Claim(
            "To drop a month takes less than a tenth of the log of deleting it.",
            dropped[1].wal < deleted[1].wal / 10,
            f"{dropped[1].wal:,} and {deleted[1].wal:,} bytes",
        ),
        Claim(
            "A DELETE gives no byte back, a DROP gives all of them; both take the same rows.",
            deleted[1].freed == 0 and dropped[1].freed > 0 and deleted[1].rows == dropped[1].rows,
            f"{deleted[1].freed} and {dropped[1].freed:,} bytes, {dropped[1].rows:,} rows",
        ),
    )


EXPERIMENT = Experiment(
    slug="partition-pruning",
    question="What do partitions by time save, and who pays for them?",
    varied="how a year of sales is stored, and what is asked of it; how a month is forgotten",
    fixed="the rows and their order, pages counted by EXPLAIN, the log by the server",
    run=run,
    topics=("A6", "D10"),
    needs=("postgres",),
)
