"""The same transfers between two plain PostgreSQL servers; decisions and sagas stand in the store.

The coordinator is the core's, as it is for key-value groups: a participant's prepare is PREPARE
TRANSACTION there, and what the store's groups record is the same decision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from random import Random

import psycopg
from psycopg import AsyncConnection
from psycopg.sql import SQL, Literal

from month5_kvstore.client import KvClient
from month5_kvstore.transactions import Checkpoint, KvTransactions, Posting, PostingSagas
from scalelab.clock import SystemClock
from scalelab.commit import (
    Acknowledged,
    Coordination,
    Effect,
    Event,
    Finish,
    Forget,
    Outcome,
    Prepare,
    Record,
    Recorded,
    Vote,
    Voted,
    begin,
    recover,
    step,
)
from scalelab.errors import Unavailable
from scalelab.ids import uuid7
from scalelab.saga import Request, Stand, decide
from scalelab.saga import Work as Effort

SCHEMA = """
CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0));
CREATE TABLE stand (saga text PRIMARY KEY, stand text NOT NULL);
"""
ENDS = ("source", "target")
_PREFIX = "kv-2pc:"
_ADD = "UPDATE account SET balance = balance + %s WHERE id = 1"
_UNKNOWN_TRANSACTION = "42704"


class PostgresTransfers:
    """servers: DSN of `source` and `target`, each with SCHEMA and an account 1."""

    def __init__(
        self, servers: Mapping[str, str], client: KvClient, checkpoint: Checkpoint | None = None
    ) -> None:
        self._servers = servers
        self._client = client
        self._checkpoint = checkpoint
        self._steps: Counter[str] = Counter()

    async def two_phase(self, amount: int) -> Outcome:
        """Both or none; returns which. Raises psycopg.Error if a server refuses a change."""
        tx = uuid7(SystemClock().now()).hex
        connections: dict[str, AsyncConnection] = {}
        try:
            for end, change in zip(ENDS, (-amount, amount), strict=True):
                connections[end] = await self._connect(end)
                await connections[end].execute("BEGIN")
                await connections[end].execute(_ADD, (change,))
            state, effects = begin(ENDS)
            return await self._carry_out(tx, connections, state, effects)
        finally:
            for conn in connections.values():
                await conn.close()

    async def recover(self) -> int:
        """End all that is prepared, by the record or by an abort; returns how many parts."""
        found: dict[str, list[str]] = {}
        connections = {end: await self._connect(end) for end in ENDS}
        try:
            for end, conn in connections.items():
                cursor = await conn.execute(
                    "SELECT gid FROM pg_prepared_xacts WHERE starts_with(gid, %s)", (_PREFIX,)
                )
                for (gid,) in await cursor.fetchall():
                    found.setdefault(str(gid).removeprefix(_PREFIX), []).append(end)
            for tx, ends in found.items():
                await self._carry_out(tx, connections, *recover(ends))
        finally:
            for conn in connections.values():
                await conn.close()
        return sum(map(len, found.values()))

    async def saga(self, amount: int) -> str:
        """Taken first, given then; returns how it ended."""
        sagas = self.sagas()
        saga = await sagas.begin([Posting(b"source", -amount), Posting(b"target", amount)])
        return await sagas.go_on(saga)

    def sagas(self) -> PostingSagas:
        """Sagas whose postings are rows of the servers."""
        transactions = KvTransactions(self._client, clock=SystemClock(), random=Random())
        return PostingSagas(
            self._client,
            transactions,
            SystemClock(),
            checkpoint=self._checkpoint,
            post=self._post,
        )

    async def _post(self, saga: str, posting: Posting, request: Request) -> Stand:
        """One local transaction: the balance and the stand of the saga."""
        conn = await self._connect(posting.key.decode())
        try:
            async with conn.transaction():
                row = await (
                    await conn.execute("SELECT balance FROM account WHERE id = 1 FOR UPDATE")
                ).fetchone()
                known = await (
                    await conn.execute("SELECT stand FROM stand WHERE saga = %s", (saga,))
                ).fetchone()
                stand = Stand(known[0]) if known else Stand.UNTOUCHED
                possible = row is not None and row[0] + posting.amount >= 0
                verdict = decide(stand, request, possible=possible)
                if verdict.work is not Effort.NOTHING:
                    done = verdict.work is Effort.CARRY_OUT
                    await conn.execute(_ADD, (posting.amount if done else -posting.amount,))
                await conn.execute(
                    "INSERT INTO stand VALUES (%s, %s)"
                    " ON CONFLICT (saga) DO UPDATE SET stand = excluded.stand",
                    (saga, verdict.stand.value),
                )
            return verdict.answer
        finally:
            await conn.close()

    async def _carry_out(
        self,
        tx: str,
        connections: Mapping[str, AsyncConnection],
        state: Coordination,
        effects: tuple[Effect, ...],
    ) -> Outcome:
        waiting = list(effects)
        while waiting:
            effect = waiting.pop(0)
            event = await self._one(tx, connections, effect)
            if event is not None:
                state, more = step(state, event)
                waiting += more
        if state.outcome is None:
            raise Unavailable("nothing was decided")
        return state.outcome

    async def _one(
        self, tx: str, connections: Mapping[str, AsyncConnection], effect: Effect
    ) -> Event | None:
        match effect:
            case Prepare(end):
                gid = Literal(_PREFIX + tx)
                try:
                    await connections[end].execute(SQL("PREPARE TRANSACTION {}").format(gid))
                except psycopg.Error as error:
                    if error.sqlstate is None:
                        raise  # no answer: it may have prepared, recovery will end it
                    return Voted(end, Vote.NO)
                await self._reached("prepare")
                return Voted(end, Vote.YES)
            case Record(wanted):
                outcome = await self._record(tx, wanted)
                await self._reached("record")
                return Recorded(outcome)
            case Finish(end, outcome):
                await _finish(connections[end], tx, outcome)
                await self._reached("finish")
                return Acknowledged(end)
            case Forget():
                await self._client.delete(_decision_key(tx))
                return None
            case _:
                return None

    async def _record(self, tx: str, wanted: Outcome) -> Outcome:
        """First writer wins; what holds."""
        if await self._client.swap(_decision_key(tx), None, wanted.value.encode()):
            return wanted
        held = await self._client.get(_decision_key(tx))
        return Outcome(held.value.decode()) if held is not None else wanted

    async def _connect(self, end: str) -> AsyncConnection:
        return await AsyncConnection.connect(self._servers[end], autocommit=True)

    async def _reached(self, name: str) -> None:
        self._steps[name] += 1
        if self._checkpoint is not None:
            await self._checkpoint(f"{name} {self._steps[name]}")


def _decision_key(tx: str) -> bytes:
    return f"postgres/decision/{tx}".encode()


async def _finish(conn: AsyncConnection, tx: str, outcome: Outcome) -> None:
    if conn.info.transaction_status is not psycopg.pq.TransactionStatus.IDLE:
        await conn.execute("ROLLBACK")  # it was never asked to prepare
    verb = "COMMIT" if outcome is Outcome.COMMIT else "ROLLBACK"
    try:
        await conn.execute(SQL("{} PREPARED {}").format(SQL(verb), Literal(_PREFIX + tx)))
    except psycopg.Error as error:
        if error.sqlstate != _UNKNOWN_TRANSACTION:
            raise
