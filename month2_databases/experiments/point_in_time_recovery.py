"""What each part of a backup brings back: rows counted, not seconds."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import datetime

import psycopg

from month2_databases.backup import Target, confirm, ship
from month2_databases.experiments.recovering import (
    Recovering,
    start_receiver,
    start_recovering,
)
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import ProviderOptions, Providers

_FAST = {"fsync": "off"}
_AT_BACKUP, _ARCHIVED, _LATEST = 500, 300, 200
_FULL_SIZE = 20  # how many times as many rows when not quick


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of a copy, and the hash of their ids."""

    rows: int
    hash: str


def run(lab: Lab) -> Result:
    """Write in three parts, restore four ways, count what is missing."""
    times = 1 if lab.quick else _FULL_SIZE
    sizes = [size * times for size in (_AT_BACKUP, _ARCHIVED, _LATEST)]
    providers = Providers(ProviderOptions.from_environment(os.environ))
    lab.note("a primary, a backup, then writes that only the log has")
    only = start_recovering(lab.runtime, "recovery", "folder", providers, settings=_FAST)
    _write(only, sizes[0])
    backup = only.tool.backup()
    _write(only, sizes[1])
    before = _count(only.primary.superuser_dsn())
    moment = _drop_rows(only)
    _ship(only)
    mistaken = sizes[0] + sizes[1]
    lab.note("restoring to the end of the backup, then to the moment before the mistake")
    from_backup = _restored(only, Target(time=backup.stopped_at))
    from_moment = _restored(only, Target(time=moment))
    _write(only, sizes[2])
    lab.note("losing the primary with its disk: what the archive had not received is gone")
    lab.runtime.kill("recovery")
    from_archive = _restored(only, Target())
    lab.note("the same with a receiver that every commit waits for")
    streamed = start_recovering(lab.runtime, "received", "folder", providers, settings=_FAST)
    streamed.tool.backup()
    start_receiver(streamed)
    _write(streamed, sizes[2])
    lab.runtime.kill("received")
    from_stream = _restored(streamed, Target())
    lost = {
        "base backup alone": mistaken - from_backup.rows,
        "backup and log, to before the mistake": mistaken - from_moment.rows,
        "server lost, log archived by the segment": sizes[2] - from_archive.rows,
        "server lost, log received synchronously": sizes[2] - from_stream.rows,
    }
    told = [mistaken, mistaken, sizes[2], sizes[2]]
    arms = tuple(
        Arm(
            name,
            "treatment" if number % 2 else "control",
            {"acknowledged_rows": told[number], "lost_rows": rows},
            ((float(number), float(rows)),),
        )
        for number, (name, rows) in enumerate(lost.items())
    )
    shape = _shape(list(lost.values()), sizes, from_moment, before)
    plot = Plot(Axis("what was kept"), Axis("acknowledged rows lost"), "bars")
    notes = ("The moment restored to lies after the last commit before the mistake.",)
    return Result(arms, shape, plot, notes)


def _shape(
    lost: list[int], sizes: list[int], from_moment: Found, before: Found
) -> tuple[Claim, ...]:
    alone, _, by_segment, received = lost
    return (
        Claim(
            "a base backup alone loses every row written after it",
            alone == sizes[1],
            f"{alone} lost, {sizes[1]} written after the backup",
        ),
        Claim(
            "with the log, a copy of the moment before a mistake has every row, and the same hash",
            from_moment == before,
            f"{from_moment.rows} of {before.rows} rows, hashes equal: {from_moment == before}",
        ),
        Claim(
            "when the server is lost, so is what its last, unfinished segment held",
            by_segment == sizes[2],
            f"{by_segment} of {sizes[2]} rows lost",
        ),
        Claim(
            "with a receiver that commits wait for, no acknowledged row is lost",
            received == 0,
            f"{received} of {sizes[2]} rows lost",
        ),
    )


def _write(one: Recovering, rows: int) -> None:
    with psycopg.connect(one.primary.superuser_dsn(), autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS entry (id bigint GENERATED ALWAYS AS IDENTITY)"
        )
        for _ in range(rows):
            connection.execute("INSERT INTO entry DEFAULT VALUES")


def _drop_rows(one: Recovering) -> datetime:
    with psycopg.connect(one.primary.superuser_dsn(), autocommit=True) as connection:
        row = connection.execute("SELECT clock_timestamp()").fetchone()
        connection.execute("DELETE FROM entry")
    assert row is not None
    return row[0]


def _ship(one: Recovering) -> None:
    with psycopg.connect(one.primary.superuser_dsn(), autocommit=True) as connection:
        ship(connection, timeout_s=60.0)


def _count(dsn: str) -> Found:
    with psycopg.connect(dsn, autocommit=True) as connection:
        ids = [row[0] for row in connection.execute("SELECT id FROM entry ORDER BY id")]
    return Found(len(ids), hashlib.sha256(repr(ids).encode()).hexdigest())


def _restored(one: Recovering, target: Target) -> Found:
    prepared = one.tool.restore(target, one.into())
    with one.start_copy(prepared) as copy:
        confirm(copy, prepared)
        return _count(copy)


EXPERIMENT = Experiment(
    slug="point-in-time-recovery",
    question="Which acknowledged rows does a restore bring back, after a mistake and after a loss?",
    varied="what was kept: base backup, archived log, log received before commits return",
    fixed="the rows written, one commit each; the program; the machine",
    run=run,
    topics=("M2.3",),
    needs=("postgres",),
)
