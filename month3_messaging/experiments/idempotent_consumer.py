"""Each event comes several times: which consumer has one effect?

Copies of every event are handed to consumers one after the other, and then at the same moment.
Nothing is remembered; the consumer looks for the effect and then makes it; an inbox row
stands in the effect's transaction. The effects are counted in PostgreSQL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import AsyncConnection

from month3_messaging import inbox
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import Postgres

EVENTS_QUICK = 200
EVENTS_FULL = 2000
COPIES = 3
_AT_ONCE = 8
_TABLES = inbox.DDL + "CREATE TABLE effect (event_id uuid NOT NULL);"
_CONSUMER = "lab"

Handle = Callable[[Database, UUID, asyncio.Barrier | None], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Tally:
    """Effects beyond one an event, with copies in turn and with copies at the same moment."""

    events: int
    in_turn: int
    at_once: int
    missing: int


async def _remember_nothing(database: Database, event: UUID, meet: asyncio.Barrier | None) -> None:
    async with database.transaction() as conn:
        await _met(meet)
        await _effect(conn, event)


async def _look_first(database: Database, event: UUID, meet: asyncio.Barrier | None) -> None:
    async with database.transaction() as conn:
        cursor = await conn.execute("SELECT FROM effect WHERE event_id = %s", (event,))
        seen = await cursor.fetchone() is not None
        await _met(meet)
        if not seen:
            await _effect(conn, event)


async def _inbox_row(database: Database, event: UUID, meet: asyncio.Barrier | None) -> None:
    async with database.transaction() as conn:
        await _met(meet)
        if await inbox.first_time(conn, _CONSUMER, event):
            await _effect(conn, event)


async def _met(meet: asyncio.Barrier | None) -> None:
    """Wait until every copy of the event is here: the moment in which a race is lost."""
    if meet is not None:
        await meet.wait()


async def _effect(conn: AsyncConnection[Any], event: UUID) -> None:
    await conn.execute("INSERT INTO effect (event_id) VALUES (%s)", (event,))


_ARMS: dict[str, Handle] = {
    "nothing remembered": _remember_nothing,
    "look first": _look_first,
    "inbox row": _inbox_row,
}


def run(lab: Lab) -> Result:
    """Every arm on a database of its own."""
    postgres = Postgres("copies-postgres", settings={"fsync": "off", "full_page_writes": "off"})
    lab.runtime.start(postgres)
    number = EVENTS_QUICK if lab.quick else EVENTS_FULL
    tallies: dict[str, Tally] = {}
    for name, handle in _ARMS.items():
        word = name.replace(" ", "_")
        dsn = postgres.ensure_database(word, word)
        with psycopg.connect(dsn) as conn:
            conn.execute(_TABLES.encode())
        tallies[name] = asyncio.run(_deliver(dsn, handle, number))
        lab.note(f"{name}: {tallies[name]}")
    return _judged(tallies)


async def _deliver(dsn: str, handle: Handle, number: int) -> Tally:
    settings = PostgresSettings(dsn, pool_max=_AT_ONCE * COPIES, acquire_timeout_s=30.0)
    async with Database(settings, name="copies") as database:
        first, second = ([uuid4() for _ in range(number)] for _ in range(2))
        for event in first:
            for _ in range(COPIES):
                await handle(database, event, None)
        for start in range(0, number, _AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for event in second[start : start + _AT_ONCE]:
                    meet = asyncio.Barrier(COPIES)
                    for _ in range(COPIES):
                        group.create_task(_run(handle, database, event, meet))
        in_turn, at_once = [await _count(database, events) for events in (first, second)]
    missing = sum(max(0, number - found) for found in (in_turn, at_once))
    return Tally(number, in_turn - number, at_once - number, missing)


async def _run(handle: Handle, database: Database, event: UUID, meet: asyncio.Barrier) -> None:
    await handle(database, event, meet)


async def _count(database: Database, events: Sequence[UUID]) -> int:
    async with database.autocommit(read_only=True) as conn:
        cursor = await conn.execute(
            "SELECT count(*) FROM effect WHERE event_id = ANY (%s)", (list(events),)
        )
        row = await cursor.fetchone()
    return int(row[0]) if row else 0


def _judged(tallies: dict[str, Tally]) -> Result:
    nothing, look, row = tallies.values()
    copies_too_many = nothing.events * (COPIES - 1)
    shape = (
        Claim(
            "Without a memory every copy has its effect.",
            (nothing.in_turn, nothing.at_once) == (copies_too_many, copies_too_many),
            f"{nothing.in_turn} and {nothing.at_once} effects too many",
        ),
        Claim(
            "To look first helps against copies that come later, and not against those that meet.",
            (look.in_turn, look.at_once) == (0, copies_too_many),
            f"{look.in_turn} too many in turn, {look.at_once} at the same moment",
        ),
        Claim(
            "An inbox row in the effect's transaction makes one effect either way.",
            (row.in_turn, row.at_once, row.missing) == (0, 0, 0),
            f"{row.in_turn} and {row.at_once} too many, {row.missing} missing",
        ),
    )
    arms = tuple(
        Arm(
            name,
            "treatment" if found is row else "control",
            {"events": found.events, "in_turn": found.in_turn, "at_once": found.at_once},
            ((0.0, float(found.in_turn)), (1.0, float(found.at_once))),
        )
        for name, found in tallies.items()
    )
    plot = Plot(Axis("0: copies in turn, 1: at the same moment"), Axis("effects too many"), "bars")
    return Result(
        arms,
        shape,
        plot,
        notes=(
            f"Each event comes {COPIES} times. The copies that meet are held until all of them are "
            "past the look, which is where a race is lost; left to chance it is lost more rarely.",
        ),
    )


EXPERIMENT = Experiment(
    slug="idempotent-consumer",
    question="Which consumer has one effect when an event comes several times?",
    varied="how the consumer knows what it has done; whether copies come in turn or together",
    fixed="events and copies of each",
    run=run,
    topics=("P7.3", "P10.2"),
    needs=("postgres",),
)
