"""One question to all orders, hot rows and Parquet files alike, answered by DuckDB.

Theory of operation
    One snapshot of PostgreSQL gives the hot rows and the list of files that answer for the rest.
    The files are fetched, each checked against its hash, and both are laid side by side under the
    name `orders`. A file never changes, so it does not matter that it is read after the snapshot;
    it can only have been moved to another tier meanwhile, and then the question is asked again.

Invariants (tests cite them)
    I1  The answer is that of a single table with every order once.
    I2  An answer is over all orders of the span or there is none: a file that is archived is
        refused by name, a file that is damaged is refused by its hash. Expired files are gone by
        decision; the answer says how many rows that concerns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa

from month2_databases.archive import journal
from month2_databases.archive.journal import Batch
from month2_databases.archive.lifecycle import Tier, is_readable
from month2_databases.archive.manifest import Manifest, check_file
from month2_databases.archive.parquet_file import decode, table_of
from month2_databases.archive.temperature import OrderRow
from scalelab.clients.postgres import Database
from scalelab.clients.s3 import ObjectStore
from scalelab.clock import Clock
from scalelab.errors import Conflict, InvalidInput, NotFound, TooLarge

_AT_ONCE = 4
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Span:
    """Months in which orders were placed, inclusive; None is open."""

    first: date | None = None
    last: date | None = None

    def __post_init__(self) -> None:
        for month in (self.first, self.last):
            if month is not None and month.day != 1:
                raise InvalidInput("a month is named by its first day", field="span")


ALWAYS = Span()


@dataclass(frozen=True, slots=True)
class Answer:
    """rows: by column name. expired_rows: of the span, gone by decision. cold_bytes: fetched."""

    rows: list[dict[str, Any]]
    hot_rows: int
    cold_rows: int
    cold_files: int
    cold_bytes: int
    expired_rows: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """One snapshot."""

    hot: list[OrderRow]
    readable: list[Manifest]
    expired_rows: int


class AllOrders:
    """Asks hot and cold orders together. most_rows: hot and cold rows of one question."""

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        bucket: str,
        *,
        clock: Clock,
        most_rows: int = 2_000_000,
    ) -> None:
        self._database = database
        self._store = store
        self._bucket = bucket
        self._clock = clock
        self._most_rows = most_rows

    async def ask(self, sql: str, values: Sequence[object] = (), *, span: Span = ALWAYS) -> Answer:
        """Run a SELECT over `orders`. sql: ours, with `?` for each of `values`; never a user's.

        Raises Conflict `object_archived` (ask for a restore), CorruptData `object_corrupt`,
        TooLarge, InvalidInput `bad_question`, and what database and store raise when away.
        """
        tries = 0
        while True:
            tries += 1
            seen = await self._look(span)
            try:
                files = await self._fetch(seen.readable)
            except NotFound as error:  # perhaps moved to another tier since the snapshot
                if error.stable_code == "no_such_bucket" or tries == _TRIES:
                    raise
            else:
                return await asyncio.to_thread(_answer, sql, values, seen, files)

    async def _look(self, span: Span) -> _Seen:
        async with self._database.transaction(read_only=True) as conn:
            await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            batches = await journal.cold_batches(conn, span.first, span.last)
            hot = await journal.hot_rows(conn, span.first, span.last, most=self._most_rows)
        now = self._clock.now()
        kept = [batch for batch in batches if batch.placement.tier is not Tier.EXPIRED]
        refused = [batch for batch in kept if not is_readable(batch.placement, now)]
        if refused:
            months = ", ".join(sorted({f"{batch.month:%Y-%m}" for batch in refused}))
            raise Conflict(
                f"orders of {months} are archived; ask for a restore, or leave them out",
                code="object_archived",
            )
        readable = [_manifest(batch) for batch in kept]
        rows = len(hot) + sum(manifest.rows for manifest in readable)
        if rows > self._most_rows:
            raise TooLarge(f"more than {self._most_rows} rows; ask for a shorter span")
        gone = sum(_manifest(b).rows for b in batches if b.placement.tier is Tier.EXPIRED)
        return _Seen(hot, readable, gone)

    async def _fetch(self, manifests: Sequence[Manifest]) -> list[bytes]:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def fetch(manifest: Manifest) -> bytes:
            async with gate:
                file = await self._store.get(self._bucket, manifest.key)
                await asyncio.to_thread(check_file, manifest, file)
                return file

        return await asyncio.gather(*(fetch(manifest) for manifest in manifests))


def _manifest(batch: Batch) -> Manifest:
    assert batch.manifest is not None  # the table's own rule: only a planned file has none
    return batch.manifest


def _answer(sql: str, values: Sequence[object], seen: _Seen, files: Sequence[bytes]) -> Answer:
    orders = pa.concat_tables([table_of(seen.hot), *(decode(file) for file in files)])
    # The engine sees the table it is given, and no file or address.
    with duckdb.connect(config={"enable_external_access": "false", "threads": "2"}) as engine:
        engine.execute("SET TimeZone = 'UTC'")
        engine.register("orders", orders)
        try:
            found = engine.sql(sql, params=list(values)).to_arrow_table().to_pylist()
        except duckdb.Error as error:
            raise InvalidInput(f"this cannot be asked: {error}", code="bad_question") from error
    return Answer(
        rows=found,
        hot_rows=len(seen.hot),
        cold_rows=sum(manifest.rows for manifest in seen.readable),
        cold_files=len(files),
        cold_bytes=sum(map(len, files)),
        expired_rows=seen.expired_rows,
    )
