"""Carries out the lifecycle rules on stored files: archive, restore, end of a restore, expiry.

The rules run here and not in the object store: versitygw keeps none (it answers 501), and an S3
server that does knows neither this journal nor its counts. The archive tier is a second bucket
whose files nobody reads directly; that they cannot be read for hours is a rule that `AllOrders`
keeps, not physics.

Theory of operation
    Each step holds the lock of the file's row and asks the rules again under it. A copy is made and
    compared with its hash before the journal points to it, and the old object goes in a step of its
    own after the journal has been committed. A kill in between leaves an object too many, never one
    too few; `tidy` removes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from month2_databases.archive import journal
from month2_databases.archive.costs import ARCHIVE_PRICE, TierPrice
from month2_databases.archive.journal import Batch
from month2_databases.archive.lifecycle import (
    Due,
    Placement,
    Rules,
    Tier,
    ask_restore,
    due,
    is_readable,
)
from month2_databases.archive.manifest import PREFIX, Manifest, check_file
from scalelab.clients.postgres import Database
from scalelab.clients.s3 import ObjectStore
from scalelab.clock import Clock
from scalelab.errors import NotFound

_STEPS_OF_A_FILE = 6


@dataclass(frozen=True, slots=True)
class Buckets:
    """cold: of readable files. archive: of those that must be restored first."""

    cold: str
    archive: str


@dataclass(frozen=True, slots=True)
class RestorePromise:
    """When the file can be read, from and until."""

    ready_at: datetime
    until: datetime


class TierRunner:
    """Runs the rules once for all files; call it as often as you like. at: as of `Mover`."""

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        buckets: Buckets,
        rules: Rules,
        *,
        clock: Clock,
        price: TierPrice = ARCHIVE_PRICE,
        at: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._database = database
        self._store = store
        self._buckets = buckets
        self._rules = rules
        self._clock = clock
        self._price = price
        self._at = at

    async def run(self) -> dict[Due, int]:
        """Do all that is due now, then remove objects that nothing points to; steps by kind."""
        async with self._database.transaction(read_only=True) as conn:
            batches = await journal.cold_batches(conn)
        done: Counter[Due] = Counter()
        for batch in batches:
            for _ in range(_STEPS_OF_A_FILE):
                step = await self._step(batch.batch_id)
                if step is Due.NOTHING:
                    break
                done[step] += 1
        await self.tidy()
        return dict(done)

    async def restore(self, batch_id: int, *, retrieval: str, keep: timedelta) -> RestorePromise:
        """Ask for an archived file. It can be read once `run` has come by after `ready_at`.

        Raises NotFound `no_such_file`, Conflict `object_expired` or `object_not_archived`.
        """
        way = self._price.retrieval(retrieval)
        async with self._database.transaction() as conn:
            batch = await journal.batch_of(conn, batch_id, lock=True)
            if batch is None or batch.state != "cold":
                raise NotFound(f"there is no stored file {batch_id}", code="no_such_file")
            asked = ask_restore(
                batch.placement, first_byte=way.first_byte, keep=keep, now=self._clock.now()
            )
            await journal.write_placement(conn, batch_id, asked)
        assert asked.restore is not None
        return RestorePromise(asked.restore.ready_at, asked.restore.until)

    async def tidy(self) -> int:
        """Remove objects that the journal does not point to, of files that are done; how many.

        Those of a file that is not cold yet are left alone: somebody may be about to point to one.
        """
        async with self._database.transaction(read_only=True) as conn:
            known = {batch.batch_id: batch for batch in await journal.cold_batches(conn)}
        removed = 0
        for bucket in (self._buckets.cold, self._buckets.archive):
            found = [key async for key in self._store.keys(bucket, PREFIX)]
            for key in found:
                batch = known.get(_batch_id(key))
                if batch is not None and not self._belongs(batch, bucket, key):
                    removed += await self._remove(batch.batch_id, bucket, key)
        return removed

    async def _step(self, batch_id: int) -> Due:
        async with self._database.transaction() as conn:
            batch = await journal.batch_of(conn, batch_id, lock=True)
            if batch is None or batch.manifest is None:
                return Due.NOTHING
            step = due(batch.placement, self._rules, self._clock.now())
            if step is Due.NOTHING:
                return step
            await journal.write_placement(conn, batch_id, await self._done(batch, step))
            self._at(step.value)
        return step

    async def _done(self, batch: Batch, step: Due) -> Placement:
        manifest, placement = _manifest(batch), batch.placement
        cold, archive = self._buckets.cold, self._buckets.archive
        if step is Due.ARCHIVE:
            await self._copied(manifest, cold, archive)
            return replace(placement, tier=Tier.ARCHIVED)
        if step is Due.FINISH_RESTORE:
            await self._copied(manifest, archive, cold)
            assert placement.restore is not None
            return replace(placement, restore=replace(placement.restore, is_done=True))
        if step is Due.END_RESTORE:
            return replace(placement, restore=None)
        return Placement(Tier.EXPIRED, placement.month_end)

    async def _copied(self, manifest: Manifest, source: str, target: str) -> None:
        await self._store.copy((source, manifest.key), (target, manifest.key))
        check_file(manifest, await self._store.get(target, manifest.key))

    def _belongs(self, batch: Batch, bucket: str, key: str) -> bool:
        """Whether the journal points to this object of a file that is done."""
        manifest, placement = _manifest(batch), batch.placement
        if placement.tier is Tier.EXPIRED:
            return False
        if key == manifest.manifest_key:
            return bucket == self._buckets.cold
        if key != manifest.key:
            return False
        if bucket == self._buckets.archive:
            return placement.tier is Tier.ARCHIVED
        return is_readable(placement, self._clock.now())

    async def _remove(self, batch_id: int, bucket: str, key: str) -> int:
        async with self._database.transaction() as conn:
            batch = await journal.batch_of(conn, batch_id, lock=True)
            if batch is None or batch.state != "cold" or self._belongs(batch, bucket, key):
                return 0
            await self._store.delete(bucket, key)
        return 1


def _manifest(batch: Batch) -> Manifest:
    assert batch.manifest is not None  # the table's own rule: only a planned file has none
    return batch.manifest


def _batch_id(key: str) -> int:
    """The number in a key's last part; -1 for a key that is none of ours."""
    number = key.rsplit("/", 1)[-1].split("-", 1)[0]
    return int(number) if number.isdecimal() else -1
