"""A value stands on three replicas. How many must answer a write, how many a read, for what?

Three groups of keys end up on three, two and one of the replicas: written while all nodes are up,
with one away, with two away, and nothing afterwards heals the difference. Then every key is read
at every level through every node. What the arithmetic says can be missed must be missed, and what
it says cannot, never; and what it says is served with a node away must be served.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from statistics import median

from month2_databases.consistency import Level, Ring, is_served, needed, stale_chance
from month2_databases.experiments.ring_bed import UNHEALED, RingBed
from scalelab.errors import Unavailable
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result

REPLICAS = 3
LEVELS = (Level.ONE, Level.QUORUM, Level.ALL)
HOLDING = (3, 2, 1)
"""Of each group of keys: replicas that have its newest value, in the order of writing."""
_PROBES = 10
_TABLE = f"CREATE TABLE IF NOT EXISTS tunable (key text PRIMARY KEY, value int) WITH {UNHEALED}"
_WRITE = "UPDATE tunable SET value = ? WHERE key = ?"
_READ = "SELECT value FROM tunable WHERE key = ?"


Share = dict[tuple[Level, int], float]
"""Of the reads at a level, of keys on that many replicas: how much was shown the old value."""


@dataclass(slots=True)
class Seen:
    """served: by (level, nodes alive, "read" or "write"), requests of _PROBES that were answered.
    stale: by (level, replicas holding), reads that were shown the old value. ms: of reads and
    writes with all nodes up, by level."""

    served: dict[tuple[Level, int, str], int] = field(
        default_factory=dict[tuple[Level, int, str], int]
    )
    stale: dict[tuple[Level, int], int] = field(default_factory=dict[tuple[Level, int], int])
    ms: dict[tuple[Level, str], float] = field(default_factory=dict[tuple[Level, str], float])


def run(lab: Lab) -> Result:
    """One ring, two nodes taken out and brought back."""
    keys = 40 if lab.quick else 200
    seen = asyncio.run(measure(lab, RingBed.of(lab.runtime), keys))
    return judge(seen, keys)


async def measure(lab: Lab, bed: RingBed, keys: int) -> Seen:
    """Write the groups while nodes go, then read them all."""
    seen = Seen()
    async with bed.client("tunable", _TABLE) as ring:
        for holding in HOLDING:
            await _write_group(ring, holding, keys, value=1, level=Level.ALL)
        try:
            for holding, gone in zip(HOLDING, (None, 3, 2), strict=True):
                if gone is not None:
                    await bed.stop(ring, gone)
                level = {3: Level.ALL, 2: Level.QUORUM, 1: Level.ONE}[holding]
                await _write_group(ring, holding, keys, value=2, level=level)
                await _probe(ring, holding, seen)
                lab.note(f"{holding} of {REPLICAS} nodes up: {_served_words(seen, holding)}")
        finally:
            await bed.bring_back(ring, 3, 2)
        for holding in HOLDING:
            for level in LEVELS:
                values = [
                    await _value(ring, f"{holding}-{number}", level, node)
                    for number in range(keys)
                    for node in ring.addresses
                ]
                seen.stale[level, holding] = values.count(1)
    return seen


async def _write_group(ring: Ring, holding: int, keys: int, *, value: int, level: Level) -> None:
    for number in range(keys):
        parameters = (value, f"{holding}-{number}")
        await ring.write(_WRITE, parameters, level=level, via=ring.addresses[0])


async def _value(ring: Ring, key: str, level: Level, node: str) -> int:
    rows = await ring.read(_READ, (key,), level=level, via=node)
    return int(rows[0]["value"])


async def _probe(ring: Ring, alive: int, seen: Seen) -> None:
    """Ask for one key at every level, in turns; count and time what is answered."""
    node = ring.addresses[0]
    took: dict[tuple[Level, str], list[float]] = {}
    for _ in range(_PROBES):
        for level in LEVELS:
            for kind in ("write", "read"):
                began_s = time.perf_counter()
                request: Awaitable[object] = (
                    ring.write(_WRITE, (1, "probe"), level=level, via=node)
                    if kind == "write"
                    else ring.read(_READ, ("probe",), level=level, via=node)
                )
                served = await _is_answered(request)
                took.setdefault((level, kind), []).append(time.perf_counter() - began_s)
                before = seen.served.get((level, alive, kind), 0)
                seen.served[level, alive, kind] = before + served
    if alive == REPLICAS:
        seen.ms = {what: median(times) * 1000 for what, times in took.items()}


async def _is_answered(request: Awaitable[object]) -> bool:
    try:
        await request
    except Unavailable as error:
        if error.stable_code != "too_few_replicas":
            raise
        return False
    return True


def judge(seen: Seen, keys: int) -> Result:
    """The arms, and what is claimed of them."""
    share = {what: count / (keys * REPLICAS) for what, count in seen.stale.items()}
    return Result(
        arms=(*_measured(seen, share), *_foretold()),
        shape=_claims(seen, share, keys),
        plot=Plot(Axis("replicas that have the write (of 3)"), Axis("share of old reads")),
        notes=(
            "No hints, no read repair: what a replica missed, it goes on missing.",
            "A node reads its own replica first, so ONE through a node is that node's replica.",
            "Times are of one caller on one machine: no network, and neighbours.",
        ),
    )


def _claims(seen: Seen, share: Share, keys: int) -> tuple[Claim, ...]:
    asked = keys * REPLICAS
    overlapping = sum(
        count for (level, holding), count in seen.stale.items() if needed(level, 3) + holding > 3
    )
    wrong = [
        f"{level} {kind} with {alive} up: {count} of {_PROBES}"
        for (level, alive, kind), count in seen.served.items()
        if count != _PROBES * is_served(level, REPLICAS, alive=alive)
    ]
    one = [seen.stale[Level.ONE, holding] for holding in HOLDING]
    quorum = share[Level.QUORUM, 1]
    return (
        Claim(
            "Where R + W > N no read is shown the old value.",
            overlapping == 0,
            f"{overlapping} old of {6 * asked} reads",
        ),
        Claim(
            "At ONE, exactly the share of replicas that missed the write shows the old value.",
            one == [0, keys, 2 * keys],
            f"{one} old of {asked} reads each; the replicas that missed it: 0, 1, 2 of 3",
        ),
        Claim(
            "A quorum misses what a single replica has about as often as chance says.",
            0.15 <= quorum <= 0.5,
            f"{quorum:.2f} of the reads, {stale_chance(Level.QUORUM, holding=1, replicas=3):.2f}"
            " by chance",
        ),
        Claim(
            "Each level is served exactly as long as enough nodes are up.",
            not wrong,
            "; ".join(wrong) or f"18 cells of {_PROBES} requests, all as foretold",
        ),
    )


def _measured(seen: Seen, share: Share) -> list[Arm]:
    return [
        Arm(
            f"read {level}",
            "control" if level is Level.ONE else "treatment",
            {
                "stale_percent_on_1": round(100 * share[level, 1], 1),
                "stale_percent_on_2": round(100 * share[level, 2], 1),
                "stale_percent_on_3": round(100 * share[level, 3], 1),
                "nodes_that_may_be_away": REPLICAS - needed(level, REPLICAS),
                "read_ms": round(seen.ms[level, "read"], 2),
                "write_ms": round(seen.ms[level, "write"], 2),
            },
            tuple((float(holding), share[level, holding]) for holding in sorted(HOLDING)),
        )
        for level in LEVELS
    ]


def _foretold() -> list[Arm]:
    return [
        Arm(
            f"chance at {level}",
            "theory",
            {},
            tuple(
                (float(holding), stale_chance(level, holding=holding, replicas=REPLICAS))
                for holding in sorted(HOLDING)
            ),
        )
        for level in (Level.ONE, Level.QUORUM)
    ]


def _served_words(seen: Seen, alive: int) -> str:
    return ", ".join(
        f"{level} {kind} {seen.served[level, alive, kind]}/{_PROBES}"
        for level in LEVELS
        for kind in ("write", "read")
    )


EXPERIMENT = Experiment(
    slug="tunable-consistency",
    question="How many replicas must answer, so that reads are never old, and who is then refused?",
    varied="replicas that have the write (1, 2, 3), the level of the read, nodes that are up",
    fixed="three replicas of every key, the same keys, no repair of any kind",
    run=run,
    topics=("D22",),
    needs=("cassandra",),
)
