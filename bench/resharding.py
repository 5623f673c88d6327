"""Moving slots beside bare COPY from server to server; throttled under writers, beside no move.

Two servers, one table with an index on its slot. The raw peer copies the same rows between the same
servers with nothing around it: no snapshot to wait for, no log to follow, no fence, no comparison.
A move's time ends when the target has the slots; removing the rows at the source comes after that
and is shown apart. Rounds take turns, and each moves the slots on to the other server.

Under load a command of its own moves the slots at a set pace while writers in this process keep
count. With fewer than three cores writers, mover and servers share them: latencies are shown beside
the same load without a move and judged by nobody; what failed or was lost is judged everywhere.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import psycopg

from month2_databases.experiments.resharding_bed import TABLE, Bed, Tally, bed, start_servers
from month2_databases.resharding import MovedTable, MoveSettings, Step, layouts_of
from scalelab.lab.course.bench import AnyFigure, Figure, LimitFigure, Options
from scalelab.lab.course.machine import usable_cores
from scalelab.lab.course.ratio import Round, compare
from scalelab.lab.servers import Postgres

MONTH = "month2"

_SLOTS = 32
_ROWS_PER_SLOT = 2000
_ROWS_PER_SLOT_UNLOADED = 8000
"""So many that what a move costs once, its map, its slot and its fence, is not most of its time."""
_PACE_ROWS_PER_S = 8000.0
_WRITERS = 4
_ENOUGH_CORES = 3


def run(options: Options) -> list[AnyFigure]:
    """All figures; takes about two minutes."""
    servers = start_servers(options.runtime, "reshard-bench", 2)
    quiet = asyncio.run(_unloaded(options, servers))
    return quiet + asyncio.run(_loaded(options, servers))


async def _unloaded(options: Options, servers: Sequence[Postgres]) -> list[AnyFigure]:
    """Raw seconds divided by the move's, for the same rows in the same round."""
    total = _SLOTS * _ROWS_PER_SLOT_UNLOADED
    options.note(f"{total} rows there and back, in turns with bare COPY")
    rounds: list[Round] = []
    cleaning: list[float] = []
    rates: list[float] = []
    async with bed(servers, "quiet", serving=2, rows_per_slot=_ROWS_PER_SLOT_UNLOADED) as on:
        slots = on.watch.current.shard_map.slots_of(servers[0].name)[:_SLOTS]
        way = [one.name for one in servers]
        for number in range(min(options.rounds, 4) + 1):
            source, target = way[number % 2], way[1 - number % 2]
            raw_s = await _raw(on, source, target, slots)
            moved_s, cleaned_s = await _moved(on, f"quiet_{number}", target, slots)
            if number:  # the first warms both up
                rounds.append(Round(raw_s, moved_s))
                cleaning.append(cleaned_s)
                rates.append(total / moved_s)
    ratio = compare(rounds, options.generator)
    rate, cleaned = sorted(rates)[len(rates) // 2], sorted(cleaning)[len(cleaning) // 2]
    return [
        Figure(
            "resharding",
            "move until the target has the slots",
            "bare COPY to COPY",
            "s, peer / ours",
            ratio,
            "at_least",
            0.5,
        ),
        _shown("the same", "rows/s", rate),
        _shown("removing the rows at the source, after it", "s", cleaned),
    ]


async def _raw(on: Bed, source: str, target: str, slots: Sequence[int]) -> float:
    """Seconds of COPY into a table that has the same columns and indexes, committed."""
    layouts = await layouts_of(on.servers[source], [MovedTable(TABLE)])
    with psycopg.connect(on.servers[target].dsn, autocommit=True) as conn:
        conn.execute("DROP TABLE IF EXISTS raw")
        conn.execute("CREATE TABLE raw (LIKE entry INCLUDING INDEXES INCLUDING CONSTRAINTS)")
    (layout,) = layouts
    begun_s = time.perf_counter()

    def copy() -> None:
        with (
            psycopg.connect(on.servers[source].dsn) as out,
            psycopg.connect(on.servers[target].dsn) as into,
            out.cursor().copy(layout.copy_out(slots)) as reading,
            into.cursor().copy("COPY raw FROM STDIN (FORMAT binary)") as writing,
        ):
            for data in reading:
                writing.write(data)

    await asyncio.to_thread(copy)
    return time.perf_counter() - begun_s


async def _moved(on: Bed, name: str, target: str, slots: Sequence[int]) -> tuple[float, float]:
    """Seconds until the target has the slots, and of the clean-up after it."""
    switched_s = 0.0

    def passed(point: str) -> None:
        nonlocal switched_s
        if point == "switching.published":
            switched_s = time.perf_counter()

    mover = on.mover(MoveSettings(grace_s=0.0), passed=passed)
    begun_s = time.perf_counter()
    await mover.plan(name, slots, target)
    move = await mover.run(name)
    if move.step is not Step.DONE or move.rows != on.rows(target, slots):
        raise RuntimeError(f"{move.title}: {move.step} {move.reason}")
    return switched_s - begun_s, mover.report.seconds["cleaning"]


async def _loaded(options: Options, servers: Sequence[Postgres]) -> list[AnyFigure]:
    """The command at a pace, under writers; then the writers alone for as long."""
    options.note(f"at a pace of {_PACE_ROWS_PER_S:.0f} rows/s under {_WRITERS} writers")
    async with bed(servers, "loaded", serving=2, rows_per_slot=_ROWS_PER_SLOT) as on:
        slots = on.watch.current.shard_map.slots_of(servers[0].name)
        moving, others = slots[:_SLOTS], slots[_SLOTS : 2 * _SLOTS]
        async with on.writing([*moving, *others], _WRITERS) as tally:
            await asyncio.sleep(1.0)
            begun_s = time.perf_counter()
            told, cpu_share = await _command(on, moving, servers[1].name)
            ended_s = time.perf_counter()
            await asyncio.sleep(1.0)
            alone_s = time.perf_counter()
            await asyncio.sleep(ended_s - begun_s)
            stopped_s = time.perf_counter()
        lost = len(set(tally.ids) - set(on.ids()))
        doubled = len(on.ids()) - len(set(on.ids()))
    during = _p99_ms(tally, others, begun_s, ended_s)
    unmoved = _p99_ms(tally, others, alone_s, stopped_s)
    enough = usable_cores() >= _ENOUGH_CORES
    closed_ms = told["unwritable_s"] * 1000
    return [
        LimitFigure(
            "resharding",
            "copied under writers, at its pace",
            "rows/s",
            told["copied_rows"] / told["seconds"]["copying"],
            "at_least",
            5000.0,
        ),
        LimitFigure("resharding", "writes failed", "writes", len(tally.failed), "at_most", 0),
        LimitFigure("resharding", "writes lost or doubled", "writes", lost + doubled, "at_most", 0),
        _shown("writes acknowledged meanwhile", "writes", len(tally.acked)),
        _shown("the mover's own processor time", "share of one core", cpu_share),
        LimitFigure(
            "resharding",
            "the moving slots take no writes",
            "ms",
            closed_ms,
            "at_most",
            500.0 if enough else None,
        ),
        _shown("p99 of other keys while slots move", "ms", during),
        _shown("p99 of the same keys, nothing moves", "ms", unmoved),
        LimitFigure(
            "resharding",
            "p99 of other keys, of the unmoved",
            "ratio",
            during / unmoved,
            "at_most",
            2.0 if enough else None,
        ),
    ]


async def _command(on: Bed, slots: Sequence[int], target: str) -> tuple[dict[str, Any], float]:
    """Run the command; its document, and its CPU as a share of one core."""
    environment = {
        **os.environ,
        "RESHARD_MAPS": on.maps_dsn,
        "RESHARD_SHARDS": json.dumps({name: one.dsn for name, one in on.servers.items()}),
        "RESHARD_TABLES": TABLE,
        "RESHARD_ROWS_PER_S": str(_PACE_ROWS_PER_S),
        "RESHARD_GRACE_S": "0",
    }
    listed = ",".join(map(str, slots))
    before, begun_s = os.times(), time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "month2_databases.resharding",
        "move",
        listed,
        target,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    after, took_s = os.times(), time.perf_counter() - begun_s
    if process.returncode != 0:
        raise RuntimeError(f"the move ended with {process.returncode}: {out.decode()}")
    used_s = after.children_user + after.children_system
    used_s -= before.children_user + before.children_system
    return json.loads(out), used_s / took_s


def _p99_ms(tally: Tally, slots: Sequence[int], begun_s: float, ended_s: float) -> float:
    wanted = set(slots)
    took = sorted(
        took_s for at, slot, took_s in tally.acked if slot in wanted and begun_s <= at <= ended_s
    )
    return took[int(len(took) * 0.99)] * 1000


def _shown(subject: str, unit: str, value: float) -> LimitFigure:
    return LimitFigure("resharding", subject, unit, value, "at_most", None)
