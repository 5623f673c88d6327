"""Mover: carries a move from wherever it stands to its end, while writes go on.

Theory of operation
    Each step does its work and then writes the next step down (see steps.py). The work:

    planned      the map says where the slots are going
    copying      publication, replication slot, COPY of the slot's snapshot; anew if cut short
    catching_up  changes are applied as the source commits them, until few are left
    fencing      the source takes no more writes to the slots; the changes up to the fence's own
                 mark in the log are applied; what stays there (an outbox) has been dealt with
    verifying    counts and hashes of both sides, while neither can change
    switching    the target owns the slots, then the map says so, then the source forgets them
    cleaning     after a grace for readers with an old map, the source's rows go, in batches
    aborting     the source takes writes again, the map too; nothing is left at the target

Guarantees
    G1  A write that was acknowledged on either shard is on the owner after the move, once.
    G2  At no instant do two shards take writes to a slot.
    G3  Killed at any instant, the move can be carried on or aborted by another process.
    G4  The source's rows are removed only after the target's were found equal.
    G5  A lost replication slot aborts the move (before the switch) and changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg

from month2_databases.resharding import map_steps
from month2_databases.resharding.bulk_copy import BulkCopy
from month2_databases.resharding.catch_up import CatchUp
from month2_databases.resharding.journal import Journal
from month2_databases.resharding.pace import Pace
from month2_databases.resharding.rows import (
    check_same,
    delete_rows,
    differing,
    fingerprints,
    layouts_of,
)
from month2_databases.resharding.servers import ShardServer
from month2_databases.resharding.source import Source
from month2_databases.resharding.steps import Move, Step, aborted, done, plan, verified
from month2_databases.resharding.tables import EmptiedTable, Layout, MovedTable
from month2_databases.resharding.target import Target
from month2_databases.sharding import MapStore
from scalelab.clients.change_stream import SlotLost
from scalelab.clock import Clock
from scalelab.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    ScalelabError,
    Unavailable,
)

MoveHook = Callable[[str], None]
"""Told of each of POINTS and ABORT_POINTS as a move passes it; may end the process there."""

POINTS = (
    "planned.begun",
    "planned.done",
    "copying.begun",
    "copying.slot_made",
    "copying.rows_sent",
    "copying.done",
    "catching_up.begun",
    "catching_up.streaming",
    "catching_up.done",
    "fencing.begun",
    "fencing.closed",
    "fencing.done",
    "verifying.begun",
    "verifying.done",
    "switching.begun",
    "switching.opened",
    "switching.published",
    "switching.done",
    "cleaning.begun",
    "cleaning.slot_dropped",
    "cleaning.done",
)
"""Where a move can be killed with something half done, in the order it passes them."""

ABORT_POINTS = (
    "aborting.begun",
    "aborting.unfenced",
    "aborting.slot_dropped",
    "aborting.rows_removed",
    "aborting.done",
)
"""The same of an abort."""


@dataclass(frozen=True, slots=True)
class MoveSettings:
    """pace: of the copy. lag_transactions: as few left before the fence. lock_timeout_s, tries:
    how long a fence waits for writes under way, and how often. empty_s: how long it then waits for
    tables to be emptied. grace_s: between the switch and the first deletion, longer than a router's
    map may be old. delete_batch, delete_pause_s: of the clean-up. retries, retry_s: of a step whose
    servers are away."""

    pace: Pace = field(default_factory=Pace)
    lag_transactions: int = 50
    lock_timeout_s: float = 0.2
    fence_tries: int = 25
    empty_s: float = 2.0
    grace_s: float = 3.0
    delete_batch: int = 5000
    delete_pause_s: float = 0.01
    retries: int = 5
    retry_s: float = 0.5


@dataclass(slots=True)
class MoveReport:
    """What a run of the mover did. unwritable_s: from the fence to the switch, None if not both
    were in this run."""

    copied_rows: int = 0
    applied: int = 0
    removed_rows: int = 0
    unwritable_s: float | None = None
    seconds: dict[str, float] = field(default_factory=dict[str, float])


_FENCED = frozenset({Step.FENCING, Step.VERIFYING})
"""Steps in which writers wait: trouble that lasts turns the move back instead."""


def _ignore(_point: str) -> None:
    """No hook."""


class Mover:
    """Plans, carries out and aborts moves between `servers` by the map in `store`.

    tables: whose rows move. emptied: whose rows stay, and keep a slot from moving until done.
    """

    def __init__(
        self,
        store: MapStore,
        servers: Mapping[str, ShardServer],
        tables: Sequence[MovedTable],
        *,
        clock: Clock,
        emptied: Sequence[EmptiedTable] = (),
        settings: MoveSettings | None = None,
        passed: MoveHook = _ignore,
    ) -> None:
        self._store = store
        self._servers = dict(servers)
        self._tables = list(tables)
        self._emptied = list(emptied)
        self._clock = clock
        self._settings = settings or MoveSettings()
        self._passed = passed
        self.journal = Journal(store.database)
        self.report = MoveReport()
        self._fenced_at_s: float | None = None
        self._known: dict[str, list[Layout]] = {}

    async def plan(self, name: str, slots: Sequence[int], target: str) -> Move:
        """Write a move down, after everything that can be checked beforehand was checked.

        All slots must have one owner now. Raises InvalidInput or Conflict, and changes nothing.
        """
        stored = await self._store.current()
        owners = {stored.shard_map.shard_of(slot) for slot in slots if 0 <= slot < 256}
        if len(owners) > 1:
            raise InvalidInput(
                f"the slots are on {sorted(owners)}; move each shard's", field="slots"
            )
        move = plan(name, tuple(slots), next(iter(owners), ""), target)
        stored.moving(move.slots, target)
        await self._layouts(move)
        await self.journal.create()
        return await self.journal.add(move)

    async def run(self, name: str) -> Move:
        """Carry the move on to its end: done, or aborted when its replication slot is lost.

        Raises what stopped it on the way; then it can be run again.
        """
        async with self.journal.owned(name) as move:
            trouble = 0
            while not move.has_ended:
                try:
                    move = await self._step(move)
                    trouble = 0
                except SlotLost as error:
                    move = await self._turn_back(move, error)
                except (Unavailable, OutcomeUnknown) as error:
                    trouble += 1
                    if trouble > self._settings.retries:
                        raise
                    if trouble > 1 and move.step in _FENCED:
                        move = await self._turn_back(move, error)
                    await asyncio.sleep(self._settings.retry_s)
                except Conflict as error:
                    if error.stable_code != "row_taken":
                        raise
                    move = await self._turn_back(move, error)
            return move

    async def abort(self, name: str, *, reason: str = "asked for") -> Move:
        """Take the move back. Raises Conflict code `move_switched` where it is too late."""
        async with self.journal.owned(name) as move:
            if not move.has_ended:
                move = await self.journal.put(move, aborted(move, reason=reason))
                move = await self._step(move)
            return move

    async def _turn_back(self, move: Move, error: ScalelabError) -> Move:
        return await self.journal.put(move, aborted(move, reason=error.message))

    async def _step(self, move: Move) -> Move:
        layouts = await self._layouts(move)
        source = Source(self._servers[move.source], move.name, move.slots)
        target = Target(
            self._servers[move.target], move.name, move.slots, layouts, epoch=move.epoch
        )
        begun_s = self._clock.monotonic_s()
        self._passed(f"{move.step}.begun")
        match move.step:
            case Step.PLANNED:
                await map_steps.announce(self._store, move)
                after = done(move)
            case Step.COPYING:
                await self._copy(move, source, target, layouts)
                after = done(move)
            case Step.CATCHING_UP:
                await self._catch_up(move, source, target, layouts)
                after = done(move)
            case Step.FENCING:
                await self._fence(move, source, target, layouts)
                after = done(move)
            case Step.VERIFYING:
                after = await self._verify(move, layouts)
            case Step.SWITCHING:
                await self._switch(move, source, target)
                after = done(move)
            case Step.CLEANING:
                await self._clean(move, source, target, layouts)
                after = done(move)
            case Step.ABORTING:
                await self._undo(move, source, target, layouts)
                after = done(move)
            case Step.DONE | Step.ABORTED:
                return move
        self._passed(f"{move.step}.done")
        self.report.seconds[move.step.value] = self._clock.monotonic_s() - begun_s
        return await self.journal.put(move, after)

    async def _copy(
        self, move: Move, source: Source, target: Target, layouts: Sequence[Layout]
    ) -> None:
        if await target.progress() is not None:
            await target.forget()
        await self._remove(target.server, move, layouts)
        async with source.follow_from_now(layouts) as snapshot:
            self._passed("copying.slot_made")
            copy = BulkCopy(source.server, target.server, layouts, move.slots, self._settings.pace)

            def seal(conn: psycopg.Connection) -> None:
                self._passed("copying.rows_sent")
                target.copied(conn, snapshot.lsn)

            running = asyncio.create_task(asyncio.to_thread(copy.run, snapshot.name, seal))
            try:
                self.report.copied_rows = await asyncio.shield(running)
            except asyncio.CancelledError:
                copy.stop.set()
                await asyncio.wait([running])
                raise

    async def _catch_up(
        self, move: Move, source: Source, target: Target, layouts: Sequence[Layout]
    ) -> None:
        async with CatchUp(source, target, move, layouts) as work:
            self._passed("catching_up.streaming")
            await work.until_few_are_left(self._settings.lag_transactions)
        self.report.applied += work.applied

    async def _fence(
        self, move: Move, source: Source, target: Target, layouts: Sequence[Layout]
    ) -> None:
        """The stream is open and short before the fence closes: writers wait for the rest alone."""
        version = (await self._store.current()).version
        async with CatchUp(source, target, move, layouts) as work:
            await work.until_few_are_left(self._settings.lag_transactions)
            mark = work.next_mark()
            await source.fence(
                mark,
                map_version=version,
                lock_timeout_s=self._settings.lock_timeout_s,
                tries=self._settings.fence_tries,
            )
            self._fenced_at_s = self._clock.monotonic_s()
            self._passed("fencing.closed")
            await work.up_to(mark)
        await source.await_empty(self._emptied, patience_s=self._settings.empty_s)
        self.report.applied += work.applied
        await map_steps.fence(self._store, move)

    async def _verify(self, move: Move, layouts: Sequence[Layout]) -> Move:
        ours, theirs = await asyncio.gather(
            fingerprints(self._servers[move.source], layouts, move.slots),
            fingerprints(self._servers[move.target], layouts, move.slots),
        )
        rows = sum(count for count, _ in ours.values())
        return verified(move, rows=rows, differing=differing(ours, theirs))

    async def _switch(self, move: Move, source: Source, target: Target) -> None:
        await map_steps.switch(self._store, move, target, passed=self._passed)
        if self._fenced_at_s is not None:
            self.report.unwritable_s = self._clock.monotonic_s() - self._fenced_at_s
        self._passed("switching.published")
        await source.give_up()

    async def _clean(
        self, move: Move, source: Source, target: Target, layouts: Sequence[Layout]
    ) -> None:
        await source.leave_nothing()
        self._passed("cleaning.slot_dropped")
        await asyncio.sleep(self._settings.grace_s)
        self.report.removed_rows = await self._remove(source.server, move, layouts)
        await target.forget()

    async def _undo(
        self, move: Move, source: Source, target: Target, layouts: Sequence[Layout]
    ) -> None:
        version = await map_steps.take_back(self._store, move)
        await source.unfence(map_version=version)
        self._passed("aborting.unfenced")
        await source.leave_nothing()
        self._passed("aborting.slot_dropped")
        await target.progress()
        await self._remove(target.server, move, layouts)
        self._passed("aborting.rows_removed")
        await target.forget()

    async def _remove(self, server: ShardServer, move: Move, layouts: Sequence[Layout]) -> int:
        return await delete_rows(
            server,
            layouts,
            move.slots,
            batch=self._settings.delete_batch,
            pause_s=self._settings.delete_pause_s,
        )

    async def _layouts(self, move: Move) -> list[Layout]:
        """How the tables look, asked once: not inside the fence, where writers wait."""
        if move.name in self._known:
            return self._known[move.name]
        for name in (move.source, move.target):
            if name not in self._servers:
                raise NotFound(f"nobody told how to reach {name}", code="shard_unknown")
        ours = await layouts_of(self._servers[move.source], self._tables)
        check_same(ours, await layouts_of(self._servers[move.target], self._tables))
        self._known[move.name] = ours
        return ours
