"""What must be on the disk before the answer, and how many syncs does that take?

Losses: the month's log on a simulated disk. A process dies at a random call, by a kill, which takes
nothing from the kernel, or by a power cut, which takes any of what was not synced: sectors of files
and names of the folder. Then the log is opened again, and what was acknowledged is looked for.

Syncs: the same log on a real disk, written to by 1 … 64 callers, each with one write at a time. A
sync is made to take 2 ms at least, so that a very fast disk shows what any other does.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

from month5_kvstore.experiments.counted_disk import CountedDisk
from month5_kvstore.log import (
    DamagedLog,
    Disk,
    Identity,
    LogWriter,
    MemoryDisk,
    PosixDisk,
    PowerCut,
    SegmentedLog,
    Submission,
    initialise,
)
from month5_kvstore.raft import Entry, EntryKind
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result, Role

CALLERS = (1, 2, 4, 8, 16, 32, 64)
SYNC_S = 0.002
WRITES = 60
"""Acknowledged at the most before a process dies."""

_IDENTITY = Identity("scalelab", 1, "ab" * 16)
_SEGMENT_BYTES = 2_000
_VALUE = bytes(100)
_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Care:
    """What a log waits for before it answers. together: writes that share a sync."""

    name: str
    role: Role
    together: int
    files: bool = True
    names: bool = True


CARES = (
    Care("sync each write", "control", 1),
    Care("group commit of 16", "treatment", 16),
    Care("no sync", "treatment", 1, files=False),
    Care("files synced, names not", "treatment", 1, names=False),
)


@dataclass(frozen=True, slots=True)
class Deaths:
    """Of many processes. hit: deaths that took an acknowledged write. closed: logs that would not
    be opened again; all that was acknowledged in them counts as lost."""

    deaths: int
    acknowledged: int
    lost: int
    hit: int
    closed: int
    syncs: int


def measure(lab: Lab) -> Result:
    """Let processes die, then count syncs."""
    deaths = 100 if lab.quick else 5_000
    died = {
        (care.name, way): die(care, deaths, lab.seed, power=way == "power cut")
        for care in CARES
        for way in ("kill", "power cut")
    }
    lab.note(f"{deaths} deaths of each kind")
    writes = 128 if lab.quick else 3_200
    with tempfile.TemporaryDirectory(dir=lab.folder) as folder:
        shares = {
            callers: asyncio.run(syncs_a_write(Path(folder) / str(callers), callers, writes))
            for callers in CALLERS
        }
        cost_us = {"this folder's disk": sync_us(Path(folder), 30 if lab.quick else 500)}
    if os.access(_MEMORY, os.W_OK):
        with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
            cost_us["memory (tmpfs)"] = sync_us(Path(folder), 30 if lab.quick else 500)
    lab.note(", ".join(f"{callers}: {share:.3f}" for callers, share in shares.items()))
    return judged(died, shares, cost_us)


def die(care: Care, deaths: int, seed: int, *, power: bool) -> Deaths:
    """So many processes, each on a disk of its own."""
    acknowledged = lost = hit = closed = syncs = 0
    for death in range(deaths):
        chance = Random(f"{seed} {death}")
        disk = MemoryDisk(chance)
        initialise(disk, _IDENTITY)
        counted = CountedDisk(disk, files=care.files, names=care.names)
        told = _work_and_die(disk, counted, care, chance, power=power)
        found = _found(disk)
        missing = told if found is None else max(0, told - found)
        acknowledged, lost, hit = acknowledged + told, lost + missing, hit + (missing > 0)
        closed, syncs = closed + (found is None), syncs + counted.syncs
    return Deaths(deaths, acknowledged, lost, hit, closed, syncs)


def _work_and_die(
    disk: MemoryDisk, counted: CountedDisk, care: Care, chance: Random, *, power: bool
) -> int:
    """Write, then die; how many writes were acknowledged, which are the first so many."""
    enough = chance.randint(1, WRITES)
    told = 0
    log = _opened(counted)
    counted.syncs = 0
    try:
        while True:
            if told >= enough and disk.faults.cut_in is None:
                if not power:
                    disk.kill()
                    return told
                disk.faults.cut_in = chance.randrange(3)
            log.persist(_batch(told + 1, care.together))
            told += care.together
    except PowerCut:
        disk.cut_power()
        return told


def _batch(first: int, count: int) -> list[Submission]:
    return [Submission(0, (_entry(index),)) for index in range(first, first + count)]


def _entry(index: int) -> Entry:
    return Entry(index, 1, EntryKind.COMMAND, _VALUE)


def _opened(disk: Disk, segment_bytes: int = _SEGMENT_BYTES) -> SegmentedLog:
    own = _IDENTITY
    return SegmentedLog.open(
        disk, cluster_id=own.cluster_id, node_id=own.node_id, segment_bytes=segment_bytes
    )


def _found(disk: MemoryDisk) -> int | None:
    """How many writes the next process finds; None if the log cannot be opened."""
    try:
        log = _opened(disk)
    except DamagedLog:
        return None
    return len(log.groups[0].entries) if 0 in log.groups else 0


async def syncs_a_write(folder: Path, callers: int, writes: int) -> float:
    """On a real disk, by so many callers that each wait for their write before the next."""
    initialise(PosixDisk(folder), _IDENTITY)
    disk = CountedDisk(PosixDisk(folder), sync_s=SYNC_S)
    log = _opened(disk, segment_bytes=64 << 20)
    disk.syncs = 0
    numbers = iter(range(1, writes + 1))
    async with LogWriter(log, disk) as writer:

        async def caller() -> None:
            for index in numbers:
                await writer.append(0, (_entry(index),))

        await asyncio.gather(*(caller() for _ in range(callers)))
    return disk.syncs / writes


def sync_us(folder: Path, times: int) -> float:
    """Median of an append of one record and its sync."""
    disk = PosixDisk(folder)
    file = disk.create("cost")
    took_ns: list[int] = []
    for _ in range(times):
        began_ns = time.perf_counter_ns()
        file.write(_VALUE)
        file.sync()
        took_ns.append(time.perf_counter_ns() - began_ns)
    file.close()
    return median(took_ns) / 1000


def cohorts(callers: int) -> float:
    """Syncs a write of callers who split in two: while one half is synced, the other one waits."""
    return 1.0 if callers == 1 else 2 / callers


def judged(
    died: dict[tuple[str, str], Deaths], shares: dict[int, float], cost_us: dict[str, float]
) -> Result:
    """The arms, and what is claimed of them."""
    arms = [_death_arm(care, died) for care in CARES]
    arms.append(
        Arm(
            "syncs a write, group commit",
            "treatment",
            {f"callers_{callers}": round(share, 3) for callers, share in shares.items()},
            tuple((float(callers), share) for callers, share in shares.items()),
        )
    )
    theory = tuple((float(callers), cohorts(callers)) for callers in CALLERS)
    arms.append(Arm("two halves take turns", "theory", {}, theory))
    limit = tuple((float(callers), 1 / callers) for callers in CALLERS)
    arms.append(Arm("all share each sync", "limit", {}, limit))
    arms += [
        Arm(f"a sync on {where}", "limit", {"sync_p50_us": round(us)})
        for where, us in cost_us.items()
    ]
    return Result(
        arms=tuple(arms),
        shape=(*_death_claims(died), *_share_claims(shares)),
        plot=Plot(
            Axis("callers that wait for their write", log=True),
            Axis("syncs a write", log=True),
        ),
        notes=(
            "A kill ends the process, not the kernel: what was written is there afterwards.",
            "A power cut keeps the synced bytes and names, and of the others what chance likes.",
            f"Segments of {_SEGMENT_BYTES} bytes: a new file, and so a new name, every few writes.",
            f"A sync takes {SYNC_S * 1000:g} ms at least where syncs are shared.",
        ),
    )


def _death_arm(care: Care, died: dict[tuple[str, str], Deaths]) -> Arm:
    kill, cut = died[care.name, "kill"], died[care.name, "power cut"]
    return Arm(
        care.name,
        care.role,
        {
            "deaths": cut.deaths,
            "acknowledged": cut.acknowledged,
            "lost_by_kill": kill.lost,
            "lost_by_power_cut": cut.lost,
            "deaths_with_loss": cut.hit,
            "logs_not_opened": cut.closed,
            "syncs_asked_a_write": round(cut.syncs / cut.acknowledged, 3),
        },
    )


def _death_claims(died: dict[tuple[str, str], Deaths]) -> tuple[Claim, ...]:
    each, grouped, never, unnamed = (care.name for care in CARES)
    cut = {name: died[name, "power cut"] for name in (each, grouped, never, unnamed)}
    kills = [died[name, "kill"] for name in cut]
    return (
        Claim(
            "A kill takes no acknowledged write back, synced or not.",
            all(of.lost == 0 for of in kills),
            f"{sum(of.lost for of in kills)} of {sum(of.acknowledged for of in kills)}",
        ),
        Claim(
            "A power cut takes none that was synced, one by one or sixteen together.",
            cut[each].lost == cut[grouped].lost == 0,
            f"0 of {cut[each].acknowledged} and 0 of {cut[grouped].acknowledged}"
            if cut[each].lost == cut[grouped].lost == 0
            else f"{cut[each].lost} and {cut[grouped].lost}",
        ),
        Claim(
            "Without a sync it takes some in more than half of all deaths.",
            cut[never].hit > cut[never].deaths / 2,
            f"{cut[never].lost} of {cut[never].acknowledged}, in {cut[never].hit} of "
            f"{cut[never].deaths} deaths",
        ),
        Claim(
            "A synced file whose name is not synced is lost with its name.",
            cut[unnamed].hit > 0,
            f"{cut[unnamed].lost} of {cut[unnamed].acknowledged}, in {cut[unnamed].hit} of "
            f"{cut[unnamed].deaths} deaths",
        ),
        Claim(
            "Sixteen together share a sync.",
            cut[grouped].syncs * 8
            < cut[each].syncs * cut[grouped].acknowledged / max(1, cut[each].acknowledged),
            f"{cut[each].syncs / cut[each].acknowledged:.2f} a write alone, "
            f"{cut[grouped].syncs / cut[grouped].acknowledged:.2f} together",
        ),
    )


def _share_claims(shares: dict[int, float]) -> tuple[Claim, ...]:
    shown = ", ".join(f"{callers}: {share:.3f}" for callers, share in shares.items())
    return (
        Claim(
            "One caller pays one sync a write, exactly.",
            shares[1] == 1,
            f"{shares[1]:g}",
        ),
        Claim(
            "Several fall into two halves that take turns: 2 / callers each, within a half of it.",
            all(
                1 / callers <= share <= 1.5 * cohorts(callers)
                for callers, share in _several(shares)
            ),
            shown,
        ),
    )


def _several(shares: dict[int, float]) -> Sequence[tuple[int, float]]:
    return [(callers, share) for callers, share in shares.items() if callers > 1]


EXPERIMENT = Experiment(
    slug="durable-writes",
    question="What must be synced before the answer, and how many writes can share a sync?",
    varied="what is synced before a write is acknowledged; how many callers write at once",
    fixed="the month's log, 100 bytes a write, the same deaths for every arm",
    run=measure,
    topics=("D18",),
)
