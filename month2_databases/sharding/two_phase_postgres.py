"""Two-phase commit over PostgreSQL shards: PREPARE TRANSACTION, a register of decisions, recovery.

The coordinator of scalelab.commit decides; here its effects are carried out. Every shard's part
runs in a transaction of its own. Prepared, it is on the shard's disk under a global id, belongs to
no connection and survives the crash of everybody; until somebody says COMMIT PREPARED or ROLLBACK
PREPARED it keeps its row locks, holds back vacuum, and shows its changes to nobody.

Guarantees
    G1  All parts commit or none does, whoever dies at whatever point, once `recover` has run.
    G2  Leaving the block without an error means: committed. Parts that could not be told are in
        `untold`, and their rows are neither old nor new to anybody until `recover` tells them.
    G3  An error means: aborted; except OutcomeUnknown, when the register could not be read:
        ask `outcome_of`, or let `recover` finish it either way.
    G4  One shard alone costs one ordinary COMMIT.
    G5  `recover` may run beside a living coordinator: the register takes the first word.

Not given: one snapshot over shards. A reader may see one part's new rows before the other's.

The server needs `max_prepared_transactions` above 0 (a restart), at least as many as transactions
in flight; 0 refuses with code `two_phase_disabled`. Leave no prepared transaction behind: watch
the age of the oldest row of pg_prepared_xacts.
Source: PostgreSQL documentation, PREPARE TRANSACTION and pg_prepared_xacts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.sql import SQL, Literal

from month2_databases.sharding.decision_register import DecisionRegister
from scalelab.clients.postgres import Database
from scalelab.clients.postgres_errors import Stage, translate
from scalelab.clock import Clock
from scalelab.commit import (
    Acknowledged,
    Coordination,
    Effect,
    Event,
    Finish,
    Forget,
    Outcome,
    OutOfTime,
    Prepare,
    Record,
    Recorded,
    Vote,
    Voted,
    begin,
    recover,
    step,
)
from scalelab.errors import OutcomeUnknown, ScalelabError, Unavailable
from scalelab.ids import uuid7

_PREFIX = "scalelab:2pc:"
_UNKNOWN_TRANSACTION = "42704"
_NOT_ENABLED = "55000"

Checkpoint = Callable[[str], Awaitable[None]]
"""Called between the steps with the name of the one that is over; tests and lessons stop there."""


class Work:
    """One distributed transaction: `work["shard-0"]` is the connection to that shard's part.

    untold: shards that are committed by decision but could not be told yet; set at the end.
    """

    def __init__(self, tx: UUID, connections: Mapping[str, AsyncConnection]) -> None:
        self.tx = tx
        self._connections = connections
        self.untold: tuple[str, ...] = ()

    def __getitem__(self, shard: str) -> AsyncConnection:
        return self._connections[shard]


class TwoPhase:
    """Distributed transactions over `shards`, decided in `register`.

    prepare_timeout_s: how long all participants together may take to vote. timeout_s: of the block.
    """

    def __init__(
        self,
        shards: Mapping[str, Database],
        register: DecisionRegister,
        clock: Clock,
        *,
        prepare_timeout_s: float = 5.0,
        timeout_s: float = 15.0,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._shards = shards
        self._register = register
        self._clock = clock
        self._prepare_timeout_s = prepare_timeout_s
        self._timeout_s = timeout_s
        self._checkpoint = checkpoint

    @asynccontextmanager
    async def transaction(self, shards: Sequence[str]) -> AsyncGenerator[Work, None]:
        """BEGIN on all of `shards`, the block, then commit everywhere or nowhere (G1 to G4).

        Nothing is changed if it raises what a shard refused to prepare for (Conflict,
        SerializationFailure, ...; code `two_phase_disabled`), or Unavailable code
        `transaction_aborted`: a shard did not vote in time, or a recovery was faster.
        """
        if len(shards) == 1:
            async with self._shards[shards[0]].transaction(timeout_s=self._timeout_s) as conn:
                yield Work(uuid7(self._clock.now()), {shards[0]: conn})
            return
        async with AsyncExitStack() as stack:
            connections: dict[str, AsyncConnection] = {}
            for name in shards:
                borrowed = self._shards[name].autocommit(read_only=True, timeout_s=self._timeout_s)
                connections[name] = await stack.enter_async_context(borrowed)
            work = Work(uuid7(self._clock.now()), connections)
            try:
                for conn in connections.values():
                    await conn.execute("BEGIN", prepare=False)
                yield work
            except BaseException:
                await asyncio.gather(*map(_give_up, connections.values()))
                raise
            await _Commit(self._register, work, connections, self._checkpoint).run(
                self._prepare_timeout_s
            )

    async def recover(self, *, older_than_s: float = 30.0) -> Mapping[UUID, Outcome]:
        """End every transaction that is in doubt on any shard for longer than that (G5).

        Returns how each ended. A shard that is away is passed over: its parts stay in doubt until
        the next call, which finds the same decision.
        """
        found: dict[UUID, set[str]] = {}
        for name, database in self._shards.items():
            try:
                for tx in await _in_doubt(database, older_than_s):
                    found.setdefault(tx, set()).add(name)
            except Unavailable:
                continue
        return {tx: await self._end(tx, sorted(names)) for tx, names in sorted(found.items())}

    async def in_doubt(self) -> Mapping[UUID, tuple[str, ...]]:
        """Transactions that are prepared somewhere, with the shards where. Raises Unavailable."""
        found: dict[UUID, tuple[str, ...]] = {}
        for name, database in self._shards.items():
            for tx in await _in_doubt(database, 0.0):
                found[tx] = (*found.get(tx, ()), name)
        return found

    async def outcome_of(self, tx: UUID) -> Outcome | None:
        """What was decided; None means that it did not commit and may still be under way."""
        return await self._register.read(tx)

    async def _end(self, tx: UUID, shards: Sequence[str]) -> Outcome:
        state, effects = recover(shards)
        outcome = Outcome.ABORT
        for effect in effects:
            if isinstance(effect, Record):
                outcome = await self._register.record(tx, effect.outcome)
                state, effects = step(state, Recorded(outcome))
        for effect in effects:
            if isinstance(effect, Finish):
                try:
                    async with self._shards[effect.participant].autocommit() as conn:
                        await _finish(conn, tx, effect.participant, effect.outcome)
                except (Unavailable, OutcomeUnknown):
                    continue  # stays in doubt; the decision is recorded and will be found
        return outcome


class _Commit:
    """Carries one coordination out over connections whose transactions are open."""

    def __init__(
        self,
        register: DecisionRegister,
        work: Work,
        connections: Mapping[str, AsyncConnection],
        checkpoint: Checkpoint | None,
    ) -> None:
        self._register = register
        self._work = work
        self._connections = connections
        self._checkpoint = checkpoint
        self._refusals: dict[str, ScalelabError] = {}

    async def run(self, prepare_timeout_s: float) -> None:
        state, effects = begin(self._connections)
        try:
            async with asyncio.timeout(prepare_timeout_s):
                events = await self._all(effects)
        except TimeoutError:
            events = [OutOfTime()]
        await self._reached("prepared")
        state, effects = _told(state, events)
        for effect in effects:
            if isinstance(effect, Record):
                outcome = await self._recorded(effect.outcome)
                await self._reached("decided")
                state, effects = _told(state, [Recorded(outcome)])
        events = await self._all(effects)
        state, effects = _told(state, events)
        self._work.untold = tuple(sorted(state.untold))
        if state.outcome is Outcome.ABORT:
            raise self._aborted()
        for effect in effects:
            if isinstance(effect, Forget):
                await self._register.forget(self._work.tx)

    async def _all(self, effects: Sequence[Effect]) -> list[Event]:
        """Carry out what goes to participants, at once; returns what they answered."""
        asked = [e for e in effects if isinstance(e, (Prepare, Finish))]
        answers = await asyncio.gather(*map(self._one, asked))
        return [answer for answer in answers if answer is not None]

    async def _one(self, effect: Prepare | Finish) -> Event | None:
        name = effect.participant
        conn = self._connections[name]
        try:
            if isinstance(effect, Finish):
                await _finish(conn, self._work.tx, name, effect.outcome)
                return Acknowledged(name)
            return Voted(name, await self._prepared(conn, name))
        except psycopg.Error as error:
            if isinstance(effect, Finish):
                return None  # not told; recovery will
            self._refusals[name] = translate(error, stage=Stage.IN_TRANSACTION, name=name)
            if error.sqlstate == _NOT_ENABLED:
                self._refusals[name] = ScalelabError(
                    f"{name} keeps no prepared transactions: set max_prepared_transactions",
                    code="two_phase_disabled",
                )
            # With an answer it is a no. Without one it may have prepared: silence, not a vote.
            return Voted(name, Vote.NO) if error.sqlstate else OutOfTime()

    async def _prepared(self, conn: AsyncConnection, name: str) -> Vote:
        """PREPARE TRANSACTION rolls a failed transaction back and calls that a success."""
        statement = SQL("PREPARE TRANSACTION {}").format(Literal(_gid(self._work.tx)))
        cursor = await conn.execute(statement, prepare=False)
        if cursor.statusmessage == "PREPARE TRANSACTION":
            return Vote.YES
        self._refusals[name] = ScalelabError(
            f"a failed statement was swallowed in the part of {name}", code="transaction_aborted"
        )
        return Vote.NO

    async def _recorded(self, wanted: Outcome) -> Outcome:
        """The register's word; asked once more if the first answer was lost."""
        try:
            return await self._register.record(self._work.tx, wanted)
        except (Unavailable, OutcomeUnknown):
            pass
        try:
            return await self._register.record(self._work.tx, wanted)
        except (Unavailable, OutcomeUnknown) as error:
            raise OutcomeUnknown(
                f"the decision on {self._work.tx} could not be read; its rows stay locked until "
                "recover() has run"
            ) from error

    async def _reached(self, name: str) -> None:
        if self._checkpoint is not None:
            await self._checkpoint(name)

    def _aborted(self) -> ScalelabError:
        """Why: the first refusal by a shard's name; else out of time, or a faster recovery."""
        for name in sorted(self._refusals):
            return self._refusals[name]
        return Unavailable(
            "not every shard prepared in time, or a recovery was faster; nothing was changed",
            code="transaction_aborted",
        )


def _told(state: Coordination, events: Sequence[Event]) -> tuple[Coordination, tuple[Effect, ...]]:
    """Tell all events; returns the effects of all of them, each once."""
    ordered: dict[Effect, None] = {}
    for event in events:
        state, effects = step(state, event)
        ordered.update(dict.fromkeys(effects))
    return state, tuple(ordered)


def _gid(tx: UUID) -> str:
    return f"{_PREFIX}{tx}"


async def _finish(conn: AsyncConnection, tx: UUID, shard: str, outcome: Outcome) -> None:
    """COMMIT or ROLLBACK PREPARED; repeated, or never prepared, it changes nothing."""
    if conn.info.transaction_status is not psycopg.pq.TransactionStatus.IDLE:
        await _give_up(conn)
    verb = "COMMIT" if outcome is Outcome.COMMIT else "ROLLBACK"
    try:
        statement = SQL("{} PREPARED {}").format(SQL(verb), Literal(_gid(tx)))
        await conn.execute(statement, prepare=False)
    except psycopg.Error as error:
        if error.sqlstate != _UNKNOWN_TRANSACTION:
            raise


async def _give_up(conn: AsyncConnection) -> None:
    """ROLLBACK what was not prepared, or close what does not talk any more."""
    try:
        await conn.execute("ROLLBACK", prepare=False)
    except psycopg.Error:
        await conn.close()


async def _in_doubt(database: Database, older_than_s: float) -> list[UUID]:
    """Prepared transactions of ours in this database; its own clock measures their age."""
    async with database.autocommit(read_only=True) as conn:
        cursor = await conn.execute(
            "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
            " AND starts_with(gid, %s)"
            " AND clock_timestamp() - prepared >= make_interval(secs => %s)",
            (_PREFIX, older_than_s),
        )
        return [UUID(str(row[0]).removeprefix(_PREFIX)) for row in await cursor.fetchall()]
