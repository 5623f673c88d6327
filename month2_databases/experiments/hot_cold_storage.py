"""What does it save to move old orders to Parquet, and when is an archive tier cheaper still?

Eighteen months of orders, the last three hot. Bytes are counted where they lie: in PostgreSQL's
files and in the bucket. The answers must be the same before and after. The archive tier's price is
a table, so its lines are arithmetic; that a file in it is refused until it is restored is tried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg

from month2_databases.archive import (
    ARCHIVE_PRICE,
    COLD_PRICE,
    AllOrders,
    Buckets,
    ColdPolicy,
    Mover,
    OrderRow,
    Rules,
    Span,
    TierRunner,
    break_even,
    cold_batches,
    cold_before,
    insert_orders,
    schema,
    year_usd,
)
from month2_databases.archive_desk import past_orders
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clients.s3 import ObjectStore, S3Settings
from scalelab.clock import ManualClock
from scalelab.errors import Conflict
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import Postgres, VersityGw

NOW = datetime(2026, 6, 15, tzinfo=UTC)
MONTHS = 18
_POLICY = ColdPolicy(hot_months=3, batch_rows=5_000)
_SUMS = (
    "SELECT country, count(*) AS orders, sum(amount_cents)::BIGINT AS cents"
    " FROM orders GROUP BY country ORDER BY country"
)
_PRICED = {"stored_bytes": 1 << 40, "objects": 10_000}
_READS = (0.0, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0)

Line = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """Bytes: of the table with its indexes before and after, and of the files. Seconds: simulated.

    same: the joint answer equals that of the single table. recent_files: read for a hot question.
    """

    table_before: int
    table_after: int
    file_bytes: int
    rows_before: int
    rows_hot: int
    rows_cold: int
    same: bool
    recent_files: int
    refused: bool
    first_byte_s: float
    same_restored: bool


def table_bytes(dsn: str) -> int:
    """Of orders and its indexes, packed tightly so that only rows count."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("VACUUM FULL orders")
        row = conn.execute("SELECT pg_total_relation_size('orders')").fetchone()
    assert row is not None
    return int(row[0])


async def measure(dsn: str, server: VersityGw, rows: Sequence[OrderRow]) -> Measured:
    """Before, after, archived, restored."""
    clock = ManualClock(start=NOW)
    settings = S3Settings(server.endpoint, server.access_key, server.secret_key)
    buckets = Buckets("hot-cold", "hot-cold-archive")
    postgres = PostgresSettings(dsn, statement_timeout_s=60.0, transaction_timeout_s=120.0)
    async with Database(postgres, name="orders") as database, ObjectStore(settings) as store:
        async with database.transaction() as conn:
            await conn.execute(schema().encode())
            await insert_orders(conn, rows)
        for bucket in (buckets.cold, buckets.archive):
            await store.ensure_bucket(bucket)
        everything = AllOrders(database, store, buckets.cold, clock=clock)
        before_bytes = await asyncio.to_thread(table_bytes, dsn)
        before = await everything.ask(_SUMS)
        moved = await Mover(database, store, buckets.cold, _POLICY, clock=clock).run()
        after = await everything.ask(_SUMS)
        recent = await everything.ask(_SUMS, span=Span(cold_before(_POLICY, NOW)))
        rules = Rules(archive_after=timedelta(days=365), expire_after=timedelta(days=3650))
        runner = TierRunner(database, store, buckets, rules, clock=clock)
        clock.advance(timedelta(days=730).total_seconds())
        await runner.run()
        refused = await _is_refused(everything)
        async with database.transaction(read_only=True) as conn:
            files = [batch.batch_id for batch in await cold_batches(conn)]
        asked_at = ready_at = clock.now()
        for batch_id in files:
            keep = timedelta(days=1)
            ready_at = (await runner.restore(batch_id, retrieval="standard", keep=keep)).ready_at
        await runner.run()
        refused = refused and await _is_refused(everything)  # asked for is not there
        clock.advance((ready_at - asked_at).total_seconds())
        await runner.run()
        restored = await everything.ask(_SUMS)
        return Measured(
            table_before=before_bytes,
            table_after=await asyncio.to_thread(table_bytes, dsn),
            file_bytes=moved.bytes,
            rows_before=len(rows),
            rows_hot=after.hot_rows,
            rows_cold=after.cold_rows,
            same=before.rows == after.rows,
            recent_files=recent.cold_files,
            refused=refused,
            first_byte_s=(ready_at - asked_at).total_seconds(),
            same_restored=before.rows == restored.rows,
        )


async def _is_refused(everything: AllOrders) -> bool:
    try:
        await everything.ask(_SUMS)
    except Conflict as error:
        return error.stable_code == "object_archived"
    return False


def run(lab: Lab) -> Result:
    """One database, one store."""
    database, server = Postgres("hot-cold"), VersityGw("hot-cold-s3")
    lab.runtime.start(database, server)
    dsn = database.ensure_database("orders", "orders")
    rows = past_orders(18_000 if lab.quick else 180_000, MONTHS, NOW, lab.random())
    found = asyncio.run(measure(dsn, server, rows))
    lab.note(f"{found}")
    return judge(found)


def judge(found: Measured) -> Result:
    """The arms, and what is claimed of them."""
    reads = break_even(ARCHIVE_PRICE, "standard", COLD_PRICE, **_PRICED)
    cold = tuple((n, year_usd(COLD_PRICE, "direct", **_PRICED, reads=n)) for n in _READS)
    archive = tuple((n, year_usd(ARCHIVE_PRICE, "standard", **_PRICED, reads=n)) for n in _READS)
    arms = (
        Arm(
            "one table",
            "control",
            {"rows": found.rows_before, "table_bytes": found.table_before},
        ),
        Arm(
            "hot rows and Parquet",
            "treatment",
            {
                "hot_rows": found.rows_hot,
                "cold_rows": found.rows_cold,
                "table_bytes": found.table_after,
                "file_bytes": found.file_bytes,
            },
            cold,
        ),
        Arm(
            "archive tier",
            "treatment",
            {"first_byte_s": found.first_byte_s, "break_even_reads_a_year": round(reads, 1)},
            archive,
        ),
    )
    return Result(
        arms=arms,
        shape=_claims(found, cold, archive),
        plot=Plot(Axis("whole reads a year"), Axis("cost of 1 TiB (US dollars a year)")),
        notes=(
            "Prices are a setting, in the proportions of a large provider's list of 2024.",
            "The waiting of the archive tier is kept by our own rule; the clock is set forward.",
        ),
    )


def _claims(found: Measured, cold: Line, archive: Line) -> tuple[Claim, ...]:
    cold_bytes = found.table_before - found.table_after
    reads = break_even(ARCHIVE_PRICE, "standard", COLD_PRICE, **_PRICED)
    return (
        Claim(
            "The joint question has the single table's answer, before and after a restore.",
            found.same and found.same_restored,
            f"{found.rows_hot} hot + {found.rows_cold} cold of {found.rows_before} rows",
        ),
        Claim(
            "A cold order takes at most half the bytes that it took in the table.",
            0 < 2 * found.file_bytes <= cold_bytes,
            f"{found.file_bytes / found.rows_cold:.0f} bytes a row instead of "
            f"{cold_bytes / found.rows_cold:.0f} with its index entries",
        ),
        Claim(
            "A question about the hot months reads no file.",
            found.recent_files == 0,
            f"{found.recent_files} files",
        ),
        Claim(
            "An archived file is refused until its restore is ready, for hours.",
            found.refused and found.first_byte_s >= 3600,
            f"first byte after {found.first_byte_s / 3600:g} h of simulated time",
        ),
        Claim(
            "The prices cross: for few whole reads a year the archive is cheaper, then dearer.",
            archive[0][1] < cold[0][1] and archive[-1][1] > cold[-1][1],
            f"at {reads:.1f} reads a year of 1 TiB",
        ),
    )


EXPERIMENT = Experiment(
    slug="hot-cold-storage",
    question="What does moving old orders to Parquet save, and when is an archive tier cheaper?",
    varied="where orders of cold months stand: in the table, as files, in an archive tier",
    fixed="the same orders, the same question, three hot months of eighteen",
    run=run,
    topics=("D9",),
    needs=("postgres", "versitygw"),
)
