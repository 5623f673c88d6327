"""Row store or column store: how many bytes does the same question read in each?

The same orders stand in a PostgreSQL table with its indexes and in one Parquet object, sorted by
id, read by the range. PostgreSQL counts the pages that it touches; of the object, every byte asked
for is counted, its footer too.
"""

from __future__ import annotations

import asyncio
import io
import time
from dataclasses import dataclass
from typing import Any, cast

import psutil
import psycopg
import pyarrow.parquet

from month2_databases.archive import OrderRow, encode, insert_orders, schema
from month2_databases.archive_desk import past_orders
from month2_databases.experiments.hot_cold_storage import MONTHS, NOW
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clients.s3 import ObjectStore, S3Settings
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import Postgres, VersityGw

_BUCKET, _KEY = "analytics", "orders.parquet"
_PAGE = 8192
_SUM = "SELECT country, sum(amount_cents) FROM orders GROUP BY country"
_ONE = "SELECT * FROM orders WHERE order_id = %s"
_parquet = cast("Any", pyarrow.parquet)


@dataclass(frozen=True, slots=True)
class Read:
    """One question in one store. cpu_ms: of the process that answers, mean of the repeats."""

    bytes: int
    cpu_ms: float
    answer: object


class RangeFile(io.RawIOBase):
    """An object as a file that is read by the range; counts what is asked for."""

    def __init__(self, store: ObjectStore, size: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._store, self._size, self._loop = store, size, loop
        self._at = 0
        self.bytes_read = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        left = self._size - self._at
        count = left if size < 0 else min(size, left)
        if count <= 0:
            return b""
        asked = self._store.get_range(_BUCKET, _KEY, self._at, count)
        found = asyncio.run_coroutine_threadsafe(asked, self._loop).result()
        self._at += len(found)
        self.bytes_read += len(found)
        return found


def ask_rows(dsn: str, question: str, values: tuple[object, ...], repeats: int) -> Read:
    """Ask PostgreSQL; pages from its own count, CPU of its own process."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("SET max_parallel_workers_per_gather = 0")
        answer = sorted(conn.execute(question.encode(), values).fetchall())
        explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {question}"
        ((plan,),) = conn.execute(explained.encode(), values).fetchall()
        top = plan[0]["Plan"]
        pages = top["Shared Hit Blocks"] + top["Shared Read Blocks"]
        process = psutil.Process(conn.info.backend_pid)
        before = process.cpu_times()
        for _ in range(repeats):
            conn.execute(question.encode(), values).fetchall()
        after = process.cpu_times()
    used_s = after.user + after.system - before.user - before.system
    return Read(pages * _PAGE, 1000 * used_s / repeats, answer)


def ask_columns(file: RangeFile, *, order_id: str | None) -> Read:
    """Ask the object: two columns of every row group, or all columns of those that may hold it."""
    begun_s = time.process_time()
    opened = _parquet.ParquetFile(file, pre_buffer=False)
    if order_id is None:
        table = opened.read(columns=["country", "amount_cents"], use_threads=False)
        summed = table.group_by("country").aggregate([("amount_cents", "sum")]).to_pylist()
        answer = sorted((one["country"], one["amount_cents_sum"]) for one in summed)
        return Read(file.bytes_read, 1000 * (time.process_time() - begun_s), answer)
    found: list[dict[str, Any]] = []
    for group in range(opened.num_row_groups):
        bounds = opened.metadata.row_group(group).column(0).statistics
        if bounds.min <= order_id <= bounds.max:
            rows = opened.read_row_group(group, use_threads=False).to_pylist()
            found += [one for one in rows if one["order_id"] == order_id]
    return Read(file.bytes_read, 1000 * (time.process_time() - begun_s), found)


async def measure(
    dsn: str, server: VersityGw, rows: list[OrderRow], repeats: int
) -> dict[str, tuple[Read, Read]]:
    """Both questions in both stores."""
    rows.sort(key=lambda row: row.order_id)
    settings = S3Settings(server.endpoint, server.access_key, server.secret_key)
    postgres = PostgresSettings(dsn, statement_timeout_s=60.0, transaction_timeout_s=120.0)
    async with Database(postgres, name="orders") as database, ObjectStore(settings) as store:
        async with database.transaction() as conn:
            await conn.execute(schema().encode())
            await insert_orders(conn, rows)
        async with database.autocommit() as conn:
            await conn.execute("VACUUM ANALYZE orders")
        await store.ensure_bucket(_BUCKET)
        await store.put(_BUCKET, _KEY, await asyncio.to_thread(encode, rows))
        size = (await store.head(_BUCKET, _KEY)).size
        loop = asyncio.get_running_loop()
        wanted = rows[len(rows) // 3].order_id
        found: dict[str, tuple[Read, Read]] = {}
        for name, question, values in (("sum", _SUM, ()), ("one order", _ONE, (wanted,))):
            by_row = await asyncio.to_thread(ask_rows, dsn, question, values, repeats)
            file = RangeFile(store, size, loop)
            order_id = str(wanted) if values else None
            by_column = await asyncio.to_thread(ask_columns, file, order_id=order_id)
            found[name] = (by_row, by_column)
        return found


def run(lab: Lab) -> Result:
    """One database, one store, the same rows."""
    database, server = Postgres("olap"), VersityGw("olap-s3")
    lab.runtime.start(database, server)
    dsn = database.ensure_database("olap", "olap")
    rows = past_orders(30_000 if lab.quick else 300_000, MONTHS, NOW, lab.random())
    found = asyncio.run(measure(dsn, server, rows, 5 if lab.quick else 20))
    return judge(len(rows), found)


def judge(rows: int, found: dict[str, tuple[Read, Read]]) -> Result:
    """The arms, and what is claimed of them."""
    (sum_row, sum_column), (one_row, one_column) = found["sum"], found["one order"]
    summed = [(country, int(cents)) for country, cents in cast("Any", sum_row.answer)]
    return Result(
        arms=(
            _arm("row store", "control", sum_row, one_row),
            _arm("column store", "treatment", sum_column, one_column),
        ),
        shape=(
            Claim(
                "Both stores give the same sums, and the one order.",
                summed == sum_column.answer and len(cast("Any", one_column.answer)) == 1,
                f"{len(summed)} sums over {rows} rows",
            ),
            Claim(
                "A sum over one of six columns reads at least ten times the bytes by row.",
                sum_row.bytes >= 10 * sum_column.bytes,
                f"{sum_row.bytes} bytes by row, {sum_column.bytes} by column",
            ),
            Claim(
                "One order by its id is the other way round: by column at least four times.",
                one_column.bytes >= 4 * one_row.bytes,
                f"{one_row.bytes} bytes by row, {one_column.bytes} by column",
            ),
        ),
        plot=Plot(Axis("1: sum, 2: one order"), Axis("bytes read", log=True)),
        notes=(
            "PostgreSQL's bytes are the pages touched, in memory or not. CPU is no claim: "
            "the column store's includes fetching its ranges over HTTP.",
        ),
    )


def _arm(name: str, role: Any, summed: Read, one: Read) -> Arm:
    figures = {
        "sum_bytes": summed.bytes,
        "one_order_bytes": one.bytes,
        "sum_cpu_ms": round(summed.cpu_ms, 2),
        "one_order_cpu_ms": round(one.cpu_ms, 2),
    }
    return Arm(name, role, figures, ((1.0, float(summed.bytes)), (2.0, float(one.bytes))))


EXPERIMENT = Experiment(
    slug="olap-vs-oltp",
    question="How many bytes does the same question read in a row store and in a column store?",
    varied="the store: a PostgreSQL table with its indexes, a Parquet object read by the range",
    fixed="the same orders; a sum over all of them, and one of them by its id",
    run=run,
    topics=("D15",),
    needs=("postgres", "versitygw"),
)
