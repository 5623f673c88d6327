"""Two-phase commit beside a saga: what stays locked, what is seen half done, what is taken back?

Money moves between two keys in two groups of a three-node store, and between rows of two PostgreSQL
servers whose transactions are decided in the store. A reader looks at every point on the way, the
coordinator is killed with -9 at every point, and transfers are tried that the second place refuses.
Everything is counted; no time is claimed.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import psycopg

from month5_kvstore.client import KvClient
from month5_kvstore.experiments.postgres_transfers import ENDS, SCHEMA
from month5_kvstore.experiments.transfer_process import POINTS, kill_at, victim
from month5_kvstore.experiments.transfer_ways import OPENING, KeyWay, ServerWay, Way
from month5_kvstore.node import group_of
from month5_kvstore.stack import start_stack
from scalelab.clock import SystemClock
from scalelab.errors import Conflict
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import Postgres

NAMES = {
    "two_writes": "two writes",
    "two_phase": "two-phase commit over groups",
    "saga": "saga over groups",
    "two_phase_postgres": "two-phase commit over PostgreSQL",
    "saga_postgres": "saga over PostgreSQL",
}
LOCKED = (1, 2, 2, 1, 0)
"""Places that two-phase commit leaves locked, by the point of death (POINTS)."""

AMOUNT = 10


@dataclass(slots=True)
class Seen:
    """Of one way. halves: looks that missed money or saw too much, on the way of transfers, of
    those in a transaction (isolated_), and while transfers were refused. locked: places, after
    each kill. lost: transfers' worth, after all recovery. undone: postings taken back."""

    looks: int = 0
    halves: int = 0
    isolated_looks: int = 0
    isolated_halves: int = 0
    refused: int = 0
    refused_halves: int = 0
    undone: int = 0
    kills: int = 0
    locked: tuple[int, ...] = ()
    lost: int = 0
    locked_after: int = 0


class Bed:
    """The store and two servers, with fresh places for each way."""

    def __init__(self, lab: Lab) -> None:
        self.urls = start_stack(lab.runtime, nodes=3).urls
        self._servers = [
            Postgres(f"place-{end}", settings={"max_prepared_transactions": "10"}) for end in ENDS
        ]
        lab.runtime.start(*self._servers)

    @asynccontextmanager
    async def way(self, name: str) -> AsyncGenerator[Way]:
        """Both places hold OPENING. Postgres is asked for databases of this way's own."""
        told: dict[str, Any] = {"urls": self.urls, "amount": AMOUNT, "source": "", "target": ""}
        async with KvClient(
            self.urls, clock=SystemClock(), random=Random(), attempt_s=10.0
        ) as client:
            if name.endswith("_postgres"):
                dsns = await asyncio.to_thread(self._databases, name)
                yield ServerWay(name, {**told, "servers": dsns}, client, dsns)
            else:
                source, target = f"{name}-source", _elsewhere(name)
                for key in (source, target):
                    await client.put(key.encode(), b"%d" % OPENING, deadline_s=60.0)
                told |= {"source": source, "target": target}
                yield KeyWay(name, told, client, source.encode(), target.encode())

    def _databases(self, name: str) -> dict[str, str]:
        dsns = {
            end: server.ensure_database(name, "bank")
            for end, server in zip(ENDS, self._servers, strict=True)
        }
        for dsn in dsns.values():
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute(SCHEMA)
                conn.execute("INSERT INTO account VALUES (1, %s)", (OPENING,))
        return dsns


def _elsewhere(name: str) -> str:
    """A key of another group than that of the source."""
    names = (f"{name}-target-{number}" for number in itertools.count())
    return next(
        key for key in names if group_of(key.encode()) != group_of(f"{name}-source".encode())
    )


def measure(lab: Lab) -> Result:
    """One way after the other."""
    bed = Bed(lab)
    rounds = 1 if lab.quick else 5
    seen: dict[str, Seen] = {}
    for name in NAMES:
        seen[name] = asyncio.run(_measured(bed, name, rounds))
        lab.note(f"{NAMES[name]}: {seen[name].kills} kills")
    return _judged(seen, rounds)


async def _measured(bed: Bed, name: str, rounds: int) -> Seen:
    seen = Seen()
    async with bed.way(name) as way:
        await _looked_at(way, seen, transfers=3 * rounds)
        if isinstance(way, KeyWay) and name == "two_phase":
            await _isolated(way, seen, transfers=5 * rounds)
        if name != "two_writes":
            await _refused(way, seen, transfers=3 * rounds)
        await _killed(way, seen, rounds)
    return seen


async def _looked_at(way: Way, seen: Seen, *, transfers: int) -> None:
    """A plain reader of both places comes by at every point."""

    async def look(_point: str) -> None:
        seen.looks += 1
        seen.halves += await way.missing() != 0

    for _ in range(transfers):
        await way.move(AMOUNT, look)


async def _isolated(way: KeyWay, seen: Seen, *, transfers: int) -> None:
    """Readers in transactions, beside transfers."""

    async def move() -> None:
        for _ in range(transfers):
            try:
                await way.move(AMOUNT, _nobody)
            except Conflict:
                continue  # nothing was changed

    async def look() -> None:
        for _ in range(transfers):
            seen.isolated_looks += 1
            seen.isolated_halves += await way.missing_in_transaction() != 0

    await asyncio.gather(move(), look())


async def _refused(way: Way, seen: Seen, *, transfers: int) -> None:
    """Back from the target, which comes second, more than it has."""

    async def look(point: str) -> None:
        seen.undone += point.startswith("undo_")
        seen.refused_halves += await way.missing() != 0

    for _ in range(transfers):
        seen.refused += 1
        await way.move(-10 * OPENING, look)


async def _killed(way: Way, seen: Seen, rounds: int) -> None:
    """A process dies at each point, then everybody recovers who can."""
    locked: list[int] = []
    points = POINTS[way.name]
    for _ in range(rounds):
        async with AsyncExitStack() as stack:
            victims = [await stack.enter_async_context(victim(way.name, one)) for one in points]
            for point, process in zip(points, victims, strict=True):
                await kill_at(process, point, way.told)
                seen.kills += 1
                locked.append(await way.locked())
                await way.recover()
                seen.locked_after += await way.locked()
    seen.locked = tuple(locked)
    seen.lost = await way.missing() // AMOUNT


async def _nobody(_point: str) -> None:
    return


def _judged(seen: dict[str, Seen], rounds: int) -> Result:
    arms = tuple(_arm(place, name, one) for place, (name, one) in enumerate(seen.items()))
    return Result(
        arms,
        (*_claims_of_locks(seen, rounds), *_claims_of_halves(seen)),
        Plot(Axis("way"), Axis("places locked after a kill (mean of two)"), kind="bars"),
        (
            "A dead coordinator's locks stay until somebody looks at the decision: a sweep, or, "
            "in the store, whoever meets them. PostgreSQL's readers never wait for them.",
            "Recovery was run after each kill; two writes have none.",
            "A saga's half states are correct states of each place: what is on its way stands in "
            "the saga's record, and a total must add it.",
        ),
    )


def _claims_of_locks(seen: dict[str, Seen], rounds: int) -> tuple[Claim, ...]:
    both = [seen["two_phase"], seen["two_phase_postgres"]]
    sagas = [seen["saga"], seen["saga_postgres"]]
    bare = seen["two_writes"]
    return (
        Claim(
            "A coordinator that dies in two-phase commit leaves exactly the places locked that "
            "were prepared and not told, over groups as over PostgreSQL.",
            all(one.locked == LOCKED * rounds for one in both),
            "; ".join(str(one.locked[: len(LOCKED)]) for one in both),
        ),
        Claim(
            "A saga whose runner dies leaves nothing locked, wherever it dies.",
            all(sum(one.locked) == 0 and one.kills > 0 for one in sagas),
            f"{sum(sum(one.locked) for one in sagas)} of {sum(one.kills for one in sagas)} kills",
        ),
        Claim(
            "After recovery nothing is locked and no money is missing; of two writes every kill "
            "between them loses the amount for ever.",
            all(one.lost == 0 and one.locked_after == 0 for one in (*both, *sagas))
            and bare.lost == bare.kills,
            ", ".join(f"{NAMES[name]}: {one.lost} of {one.kills}" for name, one in seen.items()),
        ),
    )


def _claims_of_halves(seen: dict[str, Seen]) -> tuple[Claim, ...]:
    groups, servers = seen["two_phase"], seen["two_phase_postgres"]
    sagas = [seen["saga"], seen["saga_postgres"]]
    return (
        Claim(
            "Plain readers of both places see a saga half done at two points of every transfer, "
            "two-phase commit at one: while it tells the first of them.",
            all(one.halves * _points(name) == 2 * one.looks for name, one in _named(seen, "saga"))
            and all(
                one.halves * _points(name) == one.looks for name, one in _named(seen, "two_phase")
            ),
            ", ".join(f"{NAMES[name]}: {one.halves} of {one.looks}" for name, one in seen.items()),
        ),
        Claim(
            "Readers in a transaction of the store never do.",
            groups.isolated_looks > 0 and groups.isolated_halves == 0,
            f"{groups.isolated_halves} of {groups.isolated_looks}",
        ),
        Claim(
            "Of a transfer that the second place refuses, two-phase commit shows nothing; a saga "
            "shows money that never was, and takes one posting back each time.",
            all(one.undone == 0 and one.refused_halves == 0 for one in (groups, servers))
            and all(one.undone == one.refused and one.refused_halves > 0 for one in sagas),
            f"taken back: {groups.undone}, {servers.undone}; "
            f"{', '.join(f'{one.undone} of {one.refused}' for one in sagas)}",
        ),
    )


def _named(seen: dict[str, Seen], way: str) -> list[tuple[str, Seen]]:
    return [(name, seen[name]) for name in (way, f"{way}_postgres")]


def _points(name: str) -> int:
    """At so many points a reader comes by in one undisturbed transfer."""
    return _LOOKS[name]


_LOOKS = {"two_phase": 8, "saga": 5, "two_phase_postgres": 5, "saga_postgres": 5}
"""Two-phase commit over groups: two looks of its own, then prepare, record, finish and forget."""


def _arm(place: int, name: str, one: Seen) -> Arm:
    mean = sum(one.locked) / len(one.locked)
    figures = {
        "locked_after_kills": " ".join(map(str, one.locked[: len(POINTS[name])])),
        "seen_half": f"{one.halves} of {one.looks}",
        "seen_half_in_transaction": f"{one.isolated_halves} of {one.isolated_looks}",
        "postings_taken_back": f"{one.undone} for {one.refused} refusals",
        "lost_by_kills": f"{one.lost} of {one.kills}",
    }
    role = "control" if name == "two_writes" else "treatment"
    return Arm(NAMES[name], role, figures, ((float(place), mean),))


EXPERIMENT = Experiment(
    slug="two-phase-commit-vs-saga",
    question="A coordinator dies: what stays locked, what is seen half done, what is taken back?",
    varied="two writes, two-phase commit, a saga; over groups of the store or PostgreSQL servers",
    fixed="two places, the points at which a process is killed, one transfer at a time",
    run=measure,
    topics=("A17",),
    needs=("postgres",),
)
