"""Whole transactions, run again within a bound when the server rolls them back.

    transactions = Transactions(database, random=Random())
    done = await transactions.run(work, isolation=Isolation.SERIALIZABLE)   # done.answer, .tries

How often
    At most `policy.attempts` tries, and reruns only while the budget of this object grants them:
    callers that get into each other's way all rerun at once, and that is more of the same load.
    Before rerun n a random wait of 0 to the ceiling (full jitter), so that they part.

Guarantees
    R1  The work took effect exactly once if `run` returns, and not at all if it raises, except
        OutcomeUnknown: the connection broke in COMMIT, and it may have. That is not repeated here.
    R2  What another try read is forgotten: a try sees one state of the database.
    R3  A work that is refused (InvalidInput) leaves nothing behind.

A time-out of a lock (`lock_timeout`) is not run again: somebody holds the row for long, and the
caller decides whether that is worth another wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Generic, LiteralString, TypeVar

from psycopg import AsyncConnection

from month2_databases.patterns.unit_of_work import (
    Answer,
    Statement,
    Steps,
    Work,
    begin,
    check,
    may_run_again,
)
from scalelab.clients.postgres import Database
from scalelab.clients.postgres_errors import SerializationFailure
from scalelab.resilience.retry import RetryBudget, RetryPolicy, wait_s

T = TypeVar("T")


class Isolation(Enum):
    """PostgreSQL's levels. Only the last two roll back with 40001."""

    READ_COMMITTED = "read committed"
    REPEATABLE_READ = "repeatable read"
    SERIALIZABLE = "serializable"


_SET: dict[Isolation, LiteralString] = {
    Isolation.READ_COMMITTED: "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
    Isolation.REPEATABLE_READ: "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    Isolation.SERIALIZABLE: "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
}


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """What a committed work returned. tries: 1 if the first went well."""

    answer: T
    tries: int


class Transactions:
    """Runs units of work on one database, from as many tasks as its pool carries."""

    def __init__(
        self,
        database: Database,
        *,
        random: Random,
        policy: RetryPolicy | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._random = random
        self._policy = policy or RetryPolicy(attempts=8)
        self._budget = RetryBudget(self._policy.budget)
        self._sleep = sleep

    async def run(self, work: Work[T], *, isolation: Isolation = Isolation.SERIALIZABLE) -> Done[T]:
        """Run the work and commit.

        Raises SerializationFailure when tries or budget are used up (nothing was changed),
        InvalidInput (not_rerunnable, transaction_control), and what `Database.transaction` raises.
        """
        self._budget.on_call()
        tries = 0
        while True:
            tries += 1
            try:
                return Done(await self._once(work, isolation), tries)
            except SerializationFailure as error:
                if not may_run_again(error) or tries >= self._policy.attempts:
                    raise
                if not self._budget.grants_retry():
                    raise
                pause_s = wait_s(
                    error, self._policy, retry=tries, random_unit=self._random.random()
                )
            await self._sleep(pause_s)

    async def _once(self, work: Work[T], isolation: Isolation) -> T:
        steps = begin(work)
        try:
            async with self._database.transaction() as conn:
                await conn.execute(_SET[isolation])
                return await _carry_out(conn, steps)
        finally:
            steps.close()


async def _carry_out(conn: AsyncConnection, steps: Steps[T]) -> T:
    """Every statement in turn; an error of one ends the work, which is not told of it."""
    try:
        step: object = next(steps)
        while True:
            step = steps.send(await _answer(conn, check(step)))
    except StopIteration as end:
        return end.value


async def _answer(conn: AsyncConnection, statement: Statement) -> Answer:
    # Prepared, so that the server itself refuses two statements in one text ("...; COMMIT").
    cursor = await conn.execute(statement.text, statement.values, prepare=True)
    rows = tuple(await cursor.fetchall()) if cursor.description else ()
    return Answer(rows, cursor.rowcount)
