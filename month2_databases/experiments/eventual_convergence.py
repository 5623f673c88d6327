"""A node was away while others wrote. When does it know, and who tells it?

Three tables live through the same outage. One is left alone, one is healed by hints (the node that
coordinated a write keeps it for the one that was away), one by reads (a quorum read that meets an
old replica repairs it). What node 3 has is read at ONE through node 3. Then writers with clocks
that disagree write the same keys through all three nodes at once: do the replicas come to one
value, and is it the one that the merge rule foretells?
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from random import Random

from month2_databases.consistency import Cell, Level, Ring, settle, silently_lost
from month2_databases.experiments.ring_bed import UNHEALED, UNHINTED, UNREPAIRED, RingBed, until
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result

TABLES = {"left_alone": UNHEALED, "hinted": UNREPAIRED, "read_repaired": UNHINTED}
WRITERS = 6
_SKEW_US = 5_000_000
_STEPS = 5
_GIVE_UP_S = 90.0
Points = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Seen:
    """points: by table, keys that node 3 shows as before the outage, over seconds since it is
    back. repaired: (keys read at QUORUM so far, old at node 3) after each step. old_at_quorum:
    reads of those. foretold: contested keys on which all replicas show what the rule says.
    lost: acknowledged writes that nobody will read."""

    points: Points
    repaired: list[tuple[int, int]]
    old_at_quorum: int
    contested: int
    foretold: int
    lost: int


def run(lab: Lab) -> Result:
    """One ring, one outage of one node."""
    keys = 50 if lab.quick else 300
    seen = asyncio.run(measure(lab, RingBed.of(lab.runtime), keys))
    return judge(seen, keys)


async def measure(lab: Lab, bed: RingBed, keys: int) -> Seen:
    """The outage and what follows, then the contest."""
    made = [
        f"CREATE TABLE IF NOT EXISTS {name} (key text PRIMARY KEY, value text) WITH {options}"
        for name, options in TABLES.items()
    ]
    contest = "CREATE TABLE IF NOT EXISTS contest (key text PRIMARY KEY, value text)"
    async with bed.client("convergence", *made, contest) as ring:
        for name in TABLES:
            await _write(ring, name, keys, "old", Level.ALL)
        async with bed.without(ring, 3):
            for name in TABLES:
                await _write(ring, name, keys, "new", Level.QUORUM)
        lab.note("node 3 is back")
        points, repaired, old_at_quorum = await _watch(ring, keys)
        lab.note(f"hints: {points['hinted']}")
        cells = _claims(lab.random(), contested=keys)
        foretold = await _contest(ring, cells)
    lost = sum(len(silently_lost(written)) for written in cells.values())
    return Seen(points, repaired, old_at_quorum, keys, foretold, lost)


async def _watch(ring: Ring, keys: int) -> tuple[Points, list[tuple[int, int]], int]:
    """Look at node 3 until the hints have arrived, reading a fifth of the keys after each look."""
    began_s = time.monotonic()
    points: Points = {name: [] for name in TABLES}
    repaired: list[tuple[int, int]] = []
    old_at_quorum = 0
    read = 0
    while True:
        for name in TABLES:
            old = await _old(ring, name, range(keys), Level.ONE)
            points[name].append((time.monotonic() - began_s, float(old)))
        repaired.append((read, int(points["read_repaired"][-1][1])))
        waited_s = time.monotonic() - began_s
        if read >= keys and (points["hinted"][-1][1] == 0 or waited_s > _GIVE_UP_S):
            return points, repaired, old_at_quorum
        batch = range(read, min(keys, read + keys // _STEPS))
        old_at_quorum += await _old(ring, "read_repaired", batch, Level.QUORUM)
        read = max(read, batch.stop)
        await asyncio.sleep(0.5)


async def _write(ring: Ring, table: str, keys: int, value: str, level: Level) -> None:
    statement = f"UPDATE {table} SET value = ? WHERE key = ?"  # noqa: S608 -- a name of TABLES
    for number in range(keys):
        await ring.write(statement, (value, str(number)), level=level, via=ring.addresses[0])


async def _old(ring: Ring, table: str, numbers: range, level: Level) -> int:
    """How many of these keys node 3 shows as they were before the outage."""
    query = f"SELECT value FROM {table} WHERE key = ?"  # noqa: S608 -- a name of TABLES
    old = 0
    for number in numbers:
        rows = await ring.read(query, (str(number),), level=level, via=ring.addresses[2])
        old += rows[0]["value"] == "old"
    return old


def _claims(random: Random, *, contested: int) -> dict[str, list[Cell]]:
    """For every contested key, what each writer writes and when its clock says that it does."""
    now_us = time.time_ns() // 1000
    return {
        str(number): [
            Cell(f"writer {writer}".encode(), now_us + random.randrange(-_SKEW_US, _SKEW_US))
            for writer in range(WRITERS)
        ]
        for number in range(contested)
    }


async def _contest(ring: Ring, cells: dict[str, list[Cell]]) -> int:
    """All write at once, at ONE, through different nodes; then all replicas are asked."""

    async def write(key: str, writer: int, cell: Cell) -> None:
        await ring.write(
            "UPDATE contest USING TIMESTAMP ? SET value = ? WHERE key = ?",
            (cell.written_us, (cell.value or b"").decode(), key),
            level=Level.ONE,
            via=ring.addresses[writer % len(ring.addresses)],
        )

    await asyncio.gather(
        *(write(key, n, cell) for key, several in cells.items() for n, cell in enumerate(several))
    )
    expected = {key: settle(several) for key, several in cells.items()}

    async def foretold() -> int:
        count = 0
        for key, cell in expected.items():
            wanted = None if cell is None or cell.value is None else cell.value.decode()
            values: set[object] = set()
            for node in ring.addresses:
                query = "SELECT value FROM contest WHERE key = ?"
                rows = await ring.read(query, (key,), level=Level.ONE, via=node)
                values.add(rows[0]["value"] if rows else "nothing")
            count += values == {wanted}
        return count

    async def settled() -> bool:
        return await foretold() == len(expected)

    try:
        await until(settled, what="all replicas show what the merge rule says")
    except TimeoutError:
        return await foretold()
    return len(expected)


def judge(seen: Seen, keys: int) -> Result:
    """The arms, and what is claimed of them."""
    last = {name: int(line[-1][1]) for name, line in seen.points.items()}
    shape = (
        Claim(
            "A node that nobody tells goes on showing the past.",
            all(old == keys for _, old in seen.points["left_alone"]),
            f"{last['left_alone']} of {keys} keys old at the end",
        ),
        Claim(
            "Hints tell it everything, without a single read of the keys by anybody else.",
            last["hinted"] == 0,
            f"{last['hinted']} of {keys} keys old at the end",
        ),
        Claim(
            "Reads repair exactly the keys that are read.",
            all(old == keys - read for read, old in seen.repaired),
            "read → old: " + ", ".join(f"{read} → {old}" for read, old in seen.repaired[:6]),
        ),
        Claim(
            "A quorum read shows nobody the past, even while it finds it.",
            seen.old_at_quorum == 0,
            f"{seen.old_at_quorum} of {keys} reads",
        ),
        Claim(
            "Replicas that heard the same writes in different orders agree, as the rule foretells.",
            seen.foretold == seen.contested,
            f"{seen.foretold} of {seen.contested} keys, {WRITERS} writers each",
        ),
        Claim(
            "All but one of the acknowledged writes of a contested key are gone, and nobody told.",
            seen.lost == seen.contested * (WRITERS - 1),
            f"{seen.lost} of {seen.contested * WRITERS} acknowledged writes",
        ),
    )
    arms = tuple(
        Arm(
            name.replace("_", " "),
            "control" if name == "left_alone" else "treatment",
            {
                "old_at_first": int(line[0][1]),
                "old_at_the_end": int(line[-1][1]),
                "looked_for_s": round(line[-1][0], 1),
            },
            tuple(line),
        )
        for name, line in seen.points.items()
    )
    return Result(
        arms=arms,
        shape=shape,
        plot=Plot(Axis("time since node 3 is back (s)"), Axis("keys that node 3 shows old")),
        notes=(
            "Hints wait up to 10 s for their turn; they may have arrived before the first look.",
            f"The writers' clocks disagree by up to {_SKEW_US / 1e6:.0f} s either way.",
        ),
    )


EXPERIMENT = Experiment(
    slug="eventual-convergence",
    question="A replica missed writes: when does it show them, and who tells it?",
    varied="what heals the table: nothing, hints, reads",
    fixed="one outage of one node of three, the same keys and writes",
    run=run,
    topics=("A15", "D22"),
    needs=("cassandra",),
)
