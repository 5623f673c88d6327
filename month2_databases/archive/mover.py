"""Moves cold orders out of PostgreSQL into Parquet files in an object store, a file at a time.

Theory of operation
    planned ──► export ──► upload ──► stored ──► read back ──► delete rows, cold
                                                              └── one transaction ──┘
    Every step may be the last one that this process does. What is written down says where to go on:
    a planned file is exported again (the same rows give the same bytes and so the same object), a
    stored file is read back and its rows are deleted, a cold one is done. Two movers at once do the
    same work twice and harm nothing: the last step locks the file's row and looks again.

Invariants (tests cite them)
    I1  A row is deleted only in the transaction that makes its file cold, and only after the very
        bytes in the store were read back and their hash and rows were found to be those written
        down, and the rows in the database to be still the same.
    I2  So one snapshot of `orders` and the journal holds every order exactly once, at any instant,
        whatever was killed.
    I3  Running it again when nothing is cold changes nothing.

Absent on purpose: a lock held for the whole run. It would have to outlive a frozen process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from psycopg import AsyncConnection

from month2_databases.archive import journal
from month2_databases.archive.journal import Batch
from month2_databases.archive.manifest import (
    Manifest,
    check_file,
    check_rows,
    manifest_of,
    to_json,
)
from month2_databases.archive.parquet_file import decode, encode, rows_of
from month2_databases.archive.temperature import ColdPolicy, cold_before
from scalelab.clients.postgres import Database
from scalelab.clients.postgres_errors import SerializationFailure
from scalelab.clients.s3 import ObjectStore
from scalelab.clock import Clock
from scalelab.errors import Conflict, CorruptData, InvariantBroken, NotFound

_TRIES = 5


@dataclass(frozen=True, slots=True)
class MoveReport:
    """What one run did. files, rows: that became cold. again: files that had to be made again."""

    files: int = 0
    rows: int = 0
    bytes: int = 0
    again: int = 0


class Mover:
    """Moves orders of one database to one bucket. at: called with each step's name before the next
    begins; a test ends the process there."""

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        bucket: str,
        policy: ColdPolicy,
        *,
        clock: Clock,
        at: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._database = database
        self._store = store
        self._bucket = bucket
        self._policy = policy
        self._clock = clock
        self._at = at

    async def run(self) -> MoveReport:
        """Finish what was begun, then move all that is cold now.

        Raises Conflict `rows_keep_changing`, CorruptData if the store cannot keep a file intact,
        NotFound `no_such_bucket`, and what the database and the store raise when they are away;
        in each case nothing is lost and the next run goes on.
        """
        report = MoveReport()
        while (batch := await self._next()) is not None:
            report = await self._finish(batch.batch_id, report)
        return report

    async def _next(self) -> Batch | None:
        """A file that is not cold yet: an old one, else the next to be planned."""
        before = cold_before(self._policy, self._clock.now())
        async with self._database.transaction() as conn:
            await journal.lock_planning(conn)
            waiting = await journal.unfinished(conn)
            if not waiting:
                planned = await journal.plan(conn, before=before, rows=self._policy.batch_rows)
                waiting = await journal.unfinished(conn) if planned else []
        if waiting:
            self._at("planned")
            return waiting[0]
        return None

    async def _finish(self, batch_id: int, report: MoveReport) -> MoveReport:
        error: Exception | None = None
        for _ in range(_TRIES):
            batch = await self._export(batch_id)
            if batch is None or batch.manifest is None or batch.state == "cold":
                return report  # it had no rows left, or somebody else was quicker
            try:
                await self._read_back(batch.manifest)
                await self._delete(batch, batch.manifest)
            except SerializationFailure as failure:  # a row was changed meanwhile; look again
                error = failure
            except (CorruptData, NotFound) as failure:
                if failure.stable_code == "no_such_bucket":
                    raise
                error = failure
                await self._plan_again(batch_id)
                report = replace(report, again=report.again + 1)
            else:
                self._at("cold")
                return replace(
                    report,
                    files=report.files + 1,
                    rows=report.rows + batch.manifest.rows,
                    bytes=report.bytes + batch.manifest.bytes,
                )
        if isinstance(error, CorruptData) and error.stable_code == "object_corrupt":
            raise error
        raise Conflict(
            f"file {batch_id} could not be finished in {_TRIES} tries: {error}",
            code="rows_keep_changing",
        ) from error

    async def _export(self, batch_id: int) -> Batch | None:
        """Bring a planned file to the store; the file as the journal then has it."""
        async with self._database.transaction(read_only=True) as conn:
            batch = await journal.batch_of(conn, batch_id)
            if batch is None or batch.state != "planned":
                return batch
            rows = await journal.read_rows(conn, batch)
        if not rows:
            async with self._database.transaction() as conn:
                await journal.forget(conn, batch_id)
            return None
        file = await asyncio.to_thread(encode, rows)
        manifest = await asyncio.to_thread(manifest_of, batch_id, batch.month, rows, file)
        self._at("exported")
        metadata = {"sha256": manifest.file_sha256, "rows": str(manifest.rows)}
        await self._store.put(self._bucket, manifest.key, file, metadata=metadata)
        await self._store.put(self._bucket, manifest.manifest_key, to_json(manifest).encode())
        self._at("uploaded")
        async with self._database.transaction() as conn:
            await journal.write_stored(conn, batch_id, manifest)
        self._at("stored")
        async with self._database.transaction(read_only=True) as conn:
            return await journal.batch_of(conn, batch_id)

    async def _read_back(self, manifest: Manifest) -> None:
        file = await self._store.get(self._bucket, manifest.key)

        def judge() -> None:
            check_file(manifest, file)
            check_rows(manifest, rows_of(decode(file)))

        await asyncio.to_thread(judge)
        self._at("verified")

    async def _delete(self, batch: Batch, manifest: Manifest) -> None:
        async with self._database.transaction() as conn:
            await _one_snapshot(conn)
            now = await journal.batch_of(conn, batch.batch_id, lock=True)
            if now is None or now.state != "stored" or now.manifest != manifest:
                raise SerializationFailure(f"file {batch.batch_id} was changed by another mover")
            rows = await journal.read_rows(conn, batch)
            await asyncio.to_thread(check_rows, manifest, rows)
            deleted = await journal.delete_rows(conn, batch)
            if deleted != manifest.rows:
                raise InvariantBroken(f"{deleted} rows deleted instead of {manifest.rows}")
            await journal.write_cold(conn, batch.batch_id)
            self._at("deleted")

    async def _plan_again(self, batch_id: int) -> None:
        async with self._database.transaction() as conn:
            await journal.write_planned(conn, batch_id)


async def _one_snapshot(conn: AsyncConnection) -> None:
    """All statements of this transaction see one state of the database."""
    await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
