"""Seven anomalies as scripts for two sessions, step by step. Nobody sleeps and nothing races.

A step is sent on one session. If it has to wait for the other session's lock, the script goes on
with the other one, and the step's answer is taken later: the interleaving is the same in each run.
How "has to wait" is known: the server itself says so (pg_blocking_pids), asked until the step is
answered or blocked. An error with SQLSTATE 40001 or 40P01 ends its transaction and is an outcome.

Source: Berenson et al. 1995, "A critique of ANSI SQL isolation levels"; Adya 1999; PostgreSQL
documentation, "Transaction isolation". Each history says what it would see if the anomaly happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import LiteralString

import psycopg
from psycopg import AsyncConnection

from scalelab.errors import InvariantBroken

LEVELS: tuple[LiteralString, ...] = (
    "READ UNCOMMITTED",
    "READ COMMITTED",
    "REPEATABLE READ",
    "SERIALIZABLE",
)
RUN_AGAIN = frozenset({"40001", "40P01"})
_WAIT_LIMIT_S = 60.0

Seen = dict[str, tuple[tuple[int, ...], ...]]
"""Rows by the name of the step that read them."""


@dataclass(frozen=True, slots=True)
class Step:
    """session: 0 or 1. name: under which its rows are kept, "" for none."""

    session: int
    statement: LiteralString
    name: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """steps: between BEGIN and COMMIT of both, COMMITs included. happened: what the readings and
    the rows at the end ("end") would be if the anomaly took place."""

    name: str
    steps: tuple[Step, ...]
    happened: Callable[[Seen], bool]


@dataclass(slots=True)
class Outcome:
    """refused: SQLSTATEs with which the server ended a transaction."""

    seen: Seen = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


_A: LiteralString = "SELECT value FROM item WHERE id = 1"
_B: LiteralString = "SELECT value FROM item WHERE id = 2"
_BOTH: LiteralString = "SELECT id, value FROM item ORDER BY id"
_SUM: LiteralString = "SELECT sum(value)::int FROM item"

HISTORIES: tuple[History, ...] = (
    History(
        "dirty read",
        (
            Step(0, "UPDATE item SET value = 99 WHERE id = 1"),
            Step(1, _A, "read"),
            Step(0, "ROLLBACK"),
            Step(1, "COMMIT"),
        ),
        lambda seen: seen["read"] == ((99,),),
    ),
    History(
        "non-repeatable read",
        (
            Step(0, _A, "first"),
            Step(1, "UPDATE item SET value = 11 WHERE id = 1"),
            Step(1, "COMMIT"),
            Step(0, _A, "second"),
            Step(0, "COMMIT"),
        ),
        lambda seen: seen["first"] != seen.get("second", seen["first"]),
    ),
    History(
        "phantom",
        (
            Step(0, "SELECT count(*)::int FROM item WHERE value >= 10", "first"),
            Step(1, "INSERT INTO item VALUES (3, 30)"),
            Step(1, "COMMIT"),
            Step(0, "SELECT count(*)::int FROM item WHERE value >= 10", "second"),
            Step(0, "COMMIT"),
        ),
        lambda seen: seen["first"] != seen.get("second", seen["first"]),
    ),
    History(
        "lost update",
        (
            Step(0, _A, "mine"),
            Step(1, _A, "theirs"),
            Step(0, "UPDATE item SET value = 11 WHERE id = 1"),  # 10 + 1, computed by the client
            Step(1, "UPDATE item SET value = 15 WHERE id = 1"),  # 10 + 5; waits for the first
            Step(0, "COMMIT"),
            Step(1, "COMMIT"),
        ),
        lambda seen: seen["end"][0] == (1, 15),
    ),
    History(
        "read skew",
        (
            Step(0, _A, "first"),
            Step(1, "UPDATE item SET value = value - 5 WHERE id = 1"),
            Step(1, "UPDATE item SET value = value + 5 WHERE id = 2"),
            Step(1, "COMMIT"),
            Step(0, _B, "second"),
            Step(0, "COMMIT"),
        ),
        lambda seen: seen["first"][0][0] + seen.get("second", ((20,),))[0][0] != 30,
    ),
    History(
        "write skew",
        (
            Step(0, _SUM, "mine"),  # each may take 20 if both rows hold at least 30 together
            Step(1, _SUM, "theirs"),
            Step(0, "UPDATE item SET value = value - 20 WHERE id = 1"),
            Step(1, "UPDATE item SET value = value - 20 WHERE id = 2"),
            Step(0, "COMMIT"),
            Step(1, "COMMIT"),
        ),
        lambda seen: sum(value for _, value in seen["end"]) < 0,
    ),
    History(
        "serialization anomaly",
        (
            Step(0, _SUM, "mine"),  # each writes the sum it saw as a new row
            Step(1, _SUM, "theirs"),
            Step(0, "INSERT INTO item SELECT 3, sum(value) FROM item"),
            Step(1, "INSERT INTO item SELECT 4, sum(value) FROM item"),
            Step(0, "COMMIT"),
            Step(1, "COMMIT"),
        ),
        lambda seen: seen["end"][2:] == ((3, 30), (4, 30)),  # one after the other: 30 and 60
    ),
)

# What PostgreSQL says of itself. READ UNCOMMITTED is its READ COMMITTED.
_READ_COMMITTED = frozenset(
    {
        "non-repeatable read",
        "phantom",
        "lost update",
        "read skew",
        "write skew",
        "serialization anomaly",
    }
)
EXPECTED: dict[str, frozenset[str]] = {
    "READ UNCOMMITTED": _READ_COMMITTED,
    "READ COMMITTED": _READ_COMMITTED,
    "REPEATABLE READ": frozenset({"write skew", "serialization anomaly"}),
    "SERIALIZABLE": frozenset(),
}


class Sessions:
    """Two sessions that are stepped, and a third one that watches them."""

    def __init__(self, stepped: Sequence[AsyncConnection], watcher: AsyncConnection) -> None:
        self._stepped = stepped
        self._watcher = watcher

    async def play(self, history: History, level: LiteralString) -> Outcome:
        """Two rows, 10 and 20; the steps in order; the rows at the end.

        Raises InvariantBroken if a step neither ends nor waits for the other session in a minute.
        """
        await self._watcher.execute("DROP TABLE IF EXISTS item")
        await self._watcher.execute("CREATE TABLE item (id int PRIMARY KEY, value int NOT NULL)")
        await self._watcher.execute("INSERT INTO item VALUES (1, 10), (2, 20)")
        for session in self._stepped:
            await session.execute(f"BEGIN ISOLATION LEVEL {level}")
        outcome, failed = Outcome(), [False, False]
        waiting: list[asyncio.Task[None] | None] = [None, None]
        for step in history.steps:
            await _ended(waiting[step.session])
            waiting[step.session] = None
            if failed[step.session]:
                continue
            task = asyncio.create_task(self._take(step, outcome, failed))
            if not await self._answered(task, self._stepped[step.session]):
                waiting[step.session] = task
        for task in waiting:
            await _ended(task)
        cursor = await self._watcher.execute(_BOTH)
        outcome.seen["end"] = tuple(await cursor.fetchall())
        return outcome

    async def _take(self, step: Step, outcome: Outcome, failed: list[bool]) -> None:
        session = self._stepped[step.session]
        try:
            cursor = await session.execute(step.statement)
            if step.name:
                outcome.seen[step.name] = tuple(await cursor.fetchall())
        except psycopg.Error as error:
            if error.sqlstate not in RUN_AGAIN:
                raise
            failed[step.session] = True
            outcome.refused.append(error.sqlstate)
            await session.execute("ROLLBACK")

    async def _answered(self, task: asyncio.Task[None], session: AsyncConnection) -> bool:
        """True when the step is done, False when it waits for the other session."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + _WAIT_LIMIT_S
        while loop.time() < deadline_s:
            done, _ = await asyncio.wait([task], timeout=0.01)
            if done:
                await task
                return True
            cursor = await self._watcher.execute(
                "SELECT cardinality(pg_blocking_pids(%s))", (session.info.backend_pid,)
            )
            row = await cursor.fetchone()
            if row is not None and row[0] > 0:
                return False
        raise InvariantBroken("a step neither ended nor waited for the other session")


async def _ended(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        async with asyncio.timeout(_WAIT_LIMIT_S):
            await task
