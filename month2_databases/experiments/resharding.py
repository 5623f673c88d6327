"""A third server takes a third of the slots: stopping the world, dual writing, and moving online.

All arms move the same slots to the same new server and are judged by what the databases hold in
the end. The online arm and the control run under writers; the dual-write arm has its two races
played out step by step, so that its counts are exact and not a matter of luck.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import psycopg

from month2_databases.experiments.resharding_bed import TABLE, Bed, Tally, bed, start_servers
from month2_databases.resharding import (
    BulkCopy,
    MovedTable,
    MoveSettings,
    Step,
    delete_rows,
    layouts_of,
)
from month2_databases.sharding import StoredMap, fence_slots, give_up_slots, open_slots
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import Postgres

WRITERS = 8
GROUP = 22
DUAL_ROWS = 100
_TICK_S = 0.25


@dataclass(frozen=True, slots=True)
class Moved:
    """One arm under writers. lost: acknowledged and not there. doubled: there twice. during_copy:
    new rows that the sources took while rows were copied from them. closed_s: how long the slots of
    each step took no writes. closed_slots: how many were closed at once. points: writes
    acknowledged a tick, over time."""

    lost: int
    doubled: int
    failed: int
    during_copy: int
    closed_s: tuple[float, ...]
    closed_slots: int
    seconds: float
    on_target: int
    elsewhere: int
    points: tuple[tuple[float, float], ...]


def plan(stored: StoredMap, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """By server, the slots that leave it for the last one: every third of its slots."""
    return {name: stored.shard_map.slots_of(name)[::3] for name in names[:-1]}


async def online(lab: Lab, servers: Sequence[Postgres], rows_per_slot: int) -> Moved:
    """The mover, a few slots at a time."""
    async with bed(servers, "online", serving=2, rows_per_slot=rows_per_slot) as on:
        wanted = plan(on.watch.current, list(on.dsns))
        closed_s: list[float] = []
        during_copy, counts = 0, [0]

        def passed(point: str) -> None:
            if point in ("copying.slot_made", "copying.rows_sent"):
                counts.append(sum(_new_rows(on, name) for name in wanted))

        async with on.writing(_written(wanted), WRITERS) as tally:
            await asyncio.sleep(_TICK_S * 2)
            begun_s = time.perf_counter()
            number = 0
            for slots in wanted.values():
                for start in range(0, len(slots), GROUP):
                    mover = on.mover(MoveSettings(grace_s=0.0), passed=passed)
                    number += 1
                    name = f"group_{number}"
                    await mover.plan(name, slots[start : start + GROUP], servers[-1].name)
                    move = await mover.run(name)
                    if move.step is not Step.DONE:
                        raise RuntimeError(f"{move.title}: {move.reason}")
                    closed_s.append(mover.report.unwritable_s or 0.0)
                    during_copy += counts[-1] - counts[-2]
            ended_s = time.perf_counter()
            await asyncio.sleep(_TICK_S * 2)
        lab.note(f"online: {number} moves in {ended_s - begun_s:.1f} s")
        return _judged(on, tally, wanted, (begun_s, ended_s), during_copy, (closed_s, GROUP))


async def stopped(lab: Lab, servers: Sequence[Postgres], rows_per_slot: int) -> Moved:
    """Each source takes no writes at all while its rows are copied, switched and removed."""
    async with bed(servers, "stopped", serving=2, rows_per_slot=rows_per_slot) as on:
        wanted = plan(on.watch.current, list(on.dsns))
        closed_s: list[float] = []
        during_copy, widest = 0, 0
        async with on.writing(_written(wanted), WRITERS) as tally:
            await asyncio.sleep(_TICK_S * 2)
            begun_s = time.perf_counter()
            for source, slots in wanted.items():
                every = on.watch.current.shard_map.slots_of(source)
                took, rows = await _stop_copy_switch(on, source, servers[-1].name, every, slots)
                closed_s.append(took)
                during_copy += rows
                widest = max(widest, len(every))
            ended_s = time.perf_counter()
            await asyncio.sleep(_TICK_S * 2)
        lab.note(
            f"stopped: {ended_s - begun_s:.1f} s, of which {max(closed_s):.1f} s closed at a time"
        )
        return _judged(on, tally, wanted, (begun_s, ended_s), during_copy, (closed_s, widest))


async def _stop_copy_switch(
    on: Bed, source: str, target: str, every: Sequence[int], slots: Sequence[int]
) -> tuple[float, int]:
    """The control's whole procedure. Returns the seconds closed, and rows that came meanwhile."""
    layouts = await layouts_of(on.servers[source], [MovedTable(TABLE)])
    stored = await on.store.publish((await on.store.current()).moving(slots, target), reason="stop")
    async with await psycopg.AsyncConnection.connect(on.servers[source].dsn) as conn:
        await fence_slots(conn, every, map_version=stored.version)
    begun_s, before = time.perf_counter(), _new_rows(on, source)
    async with await psycopg.AsyncConnection.connect(on.servers[source].dsn) as conn:
        row = await (await conn.execute("SELECT pg_export_snapshot()")).fetchone()
        snapshot = "" if row is None else str(row[0])
        copy = BulkCopy(on.servers[source], on.servers[target], layouts, slots)
        await asyncio.to_thread(copy.run, snapshot, lambda _conn: None)
    during = _new_rows(on, source) - before
    stored = await on.store.publish(stored.fenced(slots), reason="closed")
    async with await psycopg.AsyncConnection.connect(on.servers[target].dsn) as conn:
        await open_slots(conn, slots, map_version=stored.version + 1)
    stored = await on.store.publish(stored.switched(slots), reason="switched")
    async with await psycopg.AsyncConnection.connect(on.servers[source].dsn) as conn:
        await give_up_slots(conn, slots)
    await delete_rows(on.servers[source], layouts, slots, batch=5000, pause_s=0.0)
    async with await psycopg.AsyncConnection.connect(on.servers[source].dsn) as conn:
        rest = [slot for slot in every if slot not in set(slots)]
        await open_slots(conn, rest, map_version=stored.version)
    return time.perf_counter() - begun_s, during


def dual_write(source: Postgres, target: Postgres) -> tuple[int, int]:
    """Counters, half of them written in each of two orders; (writes lost, writes counted twice).

    The writer changes both servers, the old one first, as it must while that one is read. Nothing
    orders its second write and the copy of the row.
    """
    dsns = [one.ensure_database("dual", "shop") for one in (source, target)]
    with (
        psycopg.connect(dsns[0], autocommit=True) as old,
        psycopg.connect(dsns[1], autocommit=True) as new,
    ):
        for conn in (old, new):
            conn.execute("DROP TABLE IF EXISTS counter")
            conn.execute("CREATE TABLE counter (id int PRIMARY KEY, n int NOT NULL)")
        rows = list(range(DUAL_ROWS))
        old.execute("INSERT INTO counter SELECT i, 0 FROM unnest(%s::int[]) AS i", (rows,))
        early, late = rows[: DUAL_ROWS // 2], rows[DUAL_ROWS // 2 :]

        def write(conn: psycopg.Connection, ids: list[int]) -> None:
            conn.execute("UPDATE counter SET n = n + 1 WHERE id = ANY(%s)", (ids,))

        # Order 1: the copy has read the row, the write comes to both, the copy puts the old row.
        write(old, late)
        read = old.execute("SELECT id, n FROM counter").fetchall()
        write(old, early)
        write(new, early)
        for row in read:
            new.execute("INSERT INTO counter VALUES (%s, %s) ON CONFLICT DO NOTHING", row)
        # Order 2: the copy read the row between the write's two halves.
        write(new, late)
        found = dict(new.execute("SELECT id, n FROM counter").fetchall())
    return sum(found[i] < 1 for i in rows), sum(found[i] > 1 for i in rows)


def run(lab: Lab) -> Result:
    """Three servers, three arms."""
    servers = start_servers(lab.runtime, "reshard", 3)
    rows_per_slot = 600 if lab.quick else 3000
    control = asyncio.run(stopped(lab, servers, rows_per_slot))
    treatment = asyncio.run(online(lab, servers, rows_per_slot))
    lost, doubled = dual_write(servers[0], servers[-1])
    return judge(control, treatment, lost, doubled)


def judge(control: Moved, treatment: Moved, lost: int, doubled: int) -> Result:
    """The arms, and what is claimed of them."""
    both = (control, treatment)
    shape = (
        Claim(
            "Online, no acknowledged write is lost, none is there twice, and none fails.",
            (treatment.lost, treatment.doubled, treatment.failed) == (0, 0, 0),
            f"lost {treatment.lost}, doubled {treatment.doubled}, failed {treatment.failed}",
        ),
        Claim(
            "Writing to both servers without a fence loses one half of the writes that meet the "
            "copy and counts the other twice, by which came first.",
            (lost, doubled) == (DUAL_ROWS // 2, DUAL_ROWS // 2),
            f"of {DUAL_ROWS}: {lost} lost, {doubled} counted twice",
        ),
        Claim(
            "While rows are copied, a stopped server takes no write, and one that is moved online "
            "goes on.",
            control.during_copy == 0 and treatment.during_copy > 0,
            f"{control.during_copy} and {treatment.during_copy} new rows during the copy",
        ),
        Claim(
            "Online, a slot is closed for a shorter time than a stopped server is.",
            median(treatment.closed_s) < median(control.closed_s),
            f"{_closed_ms(treatment)} ms, at most {treatment.closed_slots} slots at once; "
            f"stopped: {_closed_ms(control)} ms, {control.closed_slots} slots",
        ),
        Claim(
            "In the end all rows of the planned slots are on the new server, and no others.",
            all(one.on_target > 0 and one.elsewhere == 0 for one in both),
            f"{treatment.on_target} rows moved, {treatment.elsewhere} astray",
        ),
    )
    dual = {"lost": lost, "doubled": doubled, "failed": 0}
    return Result(
        arms=(
            Arm("stop the world", "control", _figures(control), control.points),
            Arm("dual write, no fence", "control", dual),
            Arm("online", "treatment", _figures(treatment), treatment.points),
        ),
        shape=shape,
        plot=Plot(
            Axis("time since the move began (s)"), Axis(f"writes acknowledged per {_TICK_S} s")
        ),
        notes=(
            f"{WRITERS} writers in a closed loop, in the process that moves the rows as well.",
            f"Online moves {GROUP} slots at a time; removing rows at the source is included.",
        ),
    )


def _written(wanted: dict[str, tuple[int, ...]]) -> list[int]:
    """Slots that are moved and their neighbours that are not, in turns."""
    return [slot for slots in wanted.values() for one in slots for slot in (one, one + 1)]


def _new_rows(on: Bed, source: str) -> int:
    with psycopg.connect(on.dsns[source]) as conn:
        row = conn.execute("SELECT count(*) FROM entry WHERE filler = 'new'").fetchone()
    return 0 if row is None else int(row[0])


def _judged(
    on: Bed,
    tally: Tally,
    wanted: dict[str, tuple[int, ...]],
    span: tuple[float, float],
    during_copy: int,
    closed: tuple[Sequence[float], int],
) -> Moved:
    found, moving = on.ids(), list(itertools.chain(*wanted.values()))
    target = list(on.dsns)[-1]
    others = [slot for slot in range(256) if slot not in set(moving)]
    astray = sum(on.rows(name, moving) for name in wanted) + on.rows(target, others)
    begun_s, ended_s = span
    first_s = begun_s - 2 * _TICK_S
    ticks = int((ended_s + 2 * _TICK_S - first_s) / _TICK_S)
    every = range(256)
    points = tuple(
        (
            tick * _TICK_S - 2 * _TICK_S,
            tally.between(first_s + tick * _TICK_S, first_s + (tick + 1) * _TICK_S, every),
        )
        for tick in range(ticks)
    )
    return Moved(
        lost=len(set(tally.ids) - set(found)),
        doubled=len(found) - len(set(found)),
        failed=len(tally.failed),
        during_copy=during_copy,
        closed_s=tuple(closed[0]),
        closed_slots=closed[1],
        seconds=ended_s - begun_s,
        on_target=on.rows(target, moving),
        elsewhere=astray,
        points=points,
    )


def _closed_ms(one: Moved) -> int:
    return round(median(one.closed_s) * 1000)


def _figures(one: Moved) -> dict[str, int | float]:
    return {
        "lost": one.lost,
        "doubled": one.doubled,
        "failed": one.failed,
        "new_rows_during_copy": one.during_copy,
        "closed_ms": _closed_ms(one),
        "closed_most_ms": round(max(one.closed_s) * 1000),
        "slots_closed_at_once": one.closed_slots,
        "whole_move_s": round(one.seconds, 1),
        "rows_moved": one.on_target,
    }


EXPERIMENT = Experiment(
    slug="resharding",
    question="What do customers notice, and what do we lose, when a third server takes slots?",
    varied="how the rows get there: server stopped, writes to both, copy and follow and fence",
    fixed="the slots that move, the rows, the writers, the servers",
    run=run,
    topics=("A3", "P4.2"),
    needs=("postgres",),
)
