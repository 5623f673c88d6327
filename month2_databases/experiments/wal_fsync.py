"""How many syncs does a commit cost, and which commits does a kill take back?

Syncs are counted by the server itself. One client pays one sync a commit; several that wait at the
same time share one (group commit), and `commit_delay` makes them wait for each other. Without
`synchronous_commit` the answer comes before the log is written at all, and kill -9 shows it. With
`fsync` off nothing is synced ever: kill -9 takes nothing back even so, because the kernel lives
and holds what was written; a power cut would.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg import AsyncConnection

from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result, Role
from scalelab.lab.servers import Postgres

CLIENTS = (1, 2, 4, 8, 16)
_NAME = "wal-fsync"
_ROLE = "journal"


@dataclass(frozen=True, slots=True)
class Setup:
    """What the server is told. role: of the arm."""

    name: str
    role: Role
    settings: Mapping[str, str]


SETUPS = (
    Setup("sync each commit", "control", {}),
    Setup("sync, wait 20 ms for others", "treatment", {"commit_delay": "20000"}),
    Setup("answer before the sync", "treatment", {"synchronous_commit": "off"}),
    Setup("fsync off", "treatment", {"fsync": "off"}),
)
_ALWAYS = {
    "commit_siblings": "1",
    "wal_writer_delay": "200ms",
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "max_wal_size": "1GB",
}


@dataclass(frozen=True, slots=True)
class Counted:
    """syncs_a_commit: by number of clients. acknowledged, lost: of a run that kill -9 ended."""

    syncs_a_commit: Mapping[int, float]
    acknowledged: int
    lost: int


@dataclass(frozen=True, slots=True)
class Pages:
    """Whole pages in the log of two like rounds of updates after a checkpoint; pages touched."""

    touched: int
    first_round: int
    second_round: int


async def commit_all(dsn: str, clients: int, commits: int) -> list[int]:
    """So many commits by so many clients, one row each; the rows that were acknowledged."""
    todo = iter(range(commits))
    done: list[int] = []

    async def client() -> None:
        async with await AsyncConnection.connect(dsn, autocommit=True) as conn:
            for row in todo:
                await conn.execute("INSERT INTO entry VALUES (%s)", (row,))
                done.append(row)

    await asyncio.gather(*(client() for _ in range(clients)))
    return done


def syncs(connection: psycopg.Connection) -> int:
    """Syncs of the log since the server began to count."""
    modern = connection.info.server_version >= 180000
    row = connection.execute(
        "SELECT coalesce(sum(fsyncs), 0) FROM pg_stat_io WHERE object = 'wal'"
        if modern
        else "SELECT wal_sync FROM pg_stat_wal"
    ).fetchone()
    assert row is not None
    return int(row[0])


def count(lab: Lab, setup: Setup, *, commits: int) -> Counted:
    """One server with these settings: syncs by clients, then the kill."""
    server = Postgres(f"{_NAME}-{SETUPS.index(setup)}", settings={**_ALWAYS, **setup.settings})
    lab.runtime.start(server)
    dsn = server.ensure_database(_ROLE, _ROLE)
    shares: dict[int, float] = {}
    with psycopg.connect(server.superuser_dsn(), autocommit=True) as watching:
        for clients in CLIENTS:
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("DROP TABLE IF EXISTS entry")
                connection.execute("CREATE TABLE entry (v int)")
            before = _settled(watching)
            asyncio.run(commit_all(dsn, clients, commits))
            shares[clients] = (_settled(watching) - before) / commits
            lab.note(f"{setup.name}, {clients} clients: {shares[clients]:.2f} syncs a commit")
    acknowledged, lost = kill(lab, server, dsn, commits)
    lab.runtime.stop(server.name)
    return Counted(shares, acknowledged, lost)


def _settled(watching: psycopg.Connection) -> int:
    """The count once the sessions that synced have told theirs, which they do when they end."""
    ended = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"
    while watching.execute(ended, (_ROLE,)).fetchone() != (0,):
        watching.execute("SELECT pg_sleep(0.01)")
    return syncs(watching)


def kill(lab: Lab, server: Postgres, dsn: str, commits: int) -> tuple[int, int]:
    """Commit, kill -9 at once, start again; how many were acknowledged and how many are gone.

    The process that writes the log in the background is frozen first, so that what the kill meets
    does not depend on when it last came by.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET synchronous_commit TO on")
        connection.execute("TRUNCATE entry")  # and with it all before it is on disk
    with psycopg.connect(server.superuser_dsn(), autocommit=True) as connection:
        background = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"
        for (pid,) in connection.execute(background).fetchall():
            os.kill(pid, signal.SIGSTOP)
    done = asyncio.run(commit_all(dsn, 1, commits // 4))
    lab.runtime.kill(server.name)
    lab.runtime.restart(server.name)
    with psycopg.connect(dsn, autocommit=True) as connection:
        found = {row[0] for row in connection.execute("SELECT v FROM entry")}
    return len(done), len(set(done) - found)


def whole_pages(lab: Lab) -> Pages:
    """Update the same rows twice after a checkpoint; how many whole pages each round logs."""
    server = Postgres(f"{_NAME}-pages", settings=_ALWAYS)
    lab.runtime.start(server)
    rounds: list[int] = []
    with psycopg.connect(server.superuser_dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE wide (v int, filler text) WITH (fillfactor = 40)")
        connection.execute(
            "INSERT INTO wide SELECT n, repeat('x', 500) FROM generate_series(1, 300) n"
        )
        (touched,) = connection.execute(
            "SELECT count(DISTINCT (ctid::text::point)[0]) FROM wide"
        ).fetchone() or (0,)
        connection.execute("CHECKPOINT")
        for _ in range(2):
            query = "EXPLAIN (ANALYZE, WAL, FORMAT JSON) UPDATE wide SET v = v + 1"
            ((plan,),) = connection.execute(query).fetchall()
            rounds.append(int(plan[0]["Plan"]["WAL FPI"]))
    lab.runtime.stop(server.name)
    return Pages(int(touched), *rounds)


def run(lab: Lab) -> Result:
    """Every setup on a server of its own."""
    commits = 200 if lab.quick else 2000
    counted = {setup.name: count(lab, setup, commits=commits) for setup in SETUPS}
    return judge(counted, whole_pages(lab))


def judge(counted: Mapping[str, Counted], pages: Pages) -> Result:
    """The arms, and what is claimed of them."""
    arms = [
        Arm(
            setup.name,
            setup.role,
            {
                "syncs_a_commit_1_client": round(counted[setup.name].syncs_a_commit[1], 3),
                "syncs_a_commit_16_clients": round(counted[setup.name].syncs_a_commit[16], 3),
                "acknowledged": counted[setup.name].acknowledged,
                "lost_by_kill_9": counted[setup.name].lost,
            },
            tuple((float(n), share) for n, share in counted[setup.name].syncs_a_commit.items()),
        )
        for setup in SETUPS
    ]
    theory = tuple((float(n), 1 / n) for n in CLIENTS)
    arms.append(Arm("theory: all clients share one", "theory", {}, theory))
    figures = {"first": pages.first_round, "second": pages.second_round, "pages": pages.touched}
    arms.append(Arm("whole pages logged by two rounds", "limit", figures))
    return Result(
        arms=tuple(arms),
        shape=_claims(counted, pages),
        plot=Plot(Axis("clients that commit"), Axis("syncs of the log a commit")),
        notes=(
            "Syncs are the server's own count; how long one takes is the disk's business.",
            "kill -9 ends PostgreSQL, not the kernel: what was written but not synced survives it.",
        ),
    )


def _claims(counted: Mapping[str, Counted], pages: Pages) -> tuple[Claim, ...]:
    each, waiting, early, never = (counted[setup.name] for setup in SETUPS)
    alone, together = each.syncs_a_commit[1], waiting.syncs_a_commit[16]
    return (
        Claim(
            "One client alone pays one sync a commit.",
            0.95 <= alone <= 1.3,
            f"{alone:.2f} syncs a commit",
        ),
        Claim(
            "Sixteen clients that wait for each other share them: at most half a sync each.",
            together <= 1 / 2,
            f"{together:.2f} syncs a commit, of 0.06 if all shared one",
        ),
        Claim(
            "Answering before the sync costs at most a tenth of a sync a commit.",
            max(early.syncs_a_commit.values()) <= 0.1,
            f"at most {max(early.syncs_a_commit.values()):.3f} at any number of clients",
        ),
        Claim(
            "With fsync off there is none at all.",
            max(never.syncs_a_commit.values()) == 0,
            f"{max(never.syncs_a_commit.values()):g}",
        ),
        Claim(
            "kill -9 takes back no commit that was synced before its answer.",
            (each.lost, waiting.lost) == (0, 0),
            f"{each.lost} of {each.acknowledged}, {waiting.lost} of {waiting.acknowledged}",
        ),
        Claim(
            "It takes back most of those that were answered before.",
            early.acknowledged / 2 < early.lost <= early.acknowledged,
            f"{early.lost} of {early.acknowledged} acknowledged",
        ),
        Claim(
            "It takes back none that was written and never synced: only a power cut would.",
            never.lost == 0,
            f"{never.lost} of {never.acknowledged}",
        ),
        Claim(
            "After a checkpoint the first change of a page logs all of it, the second does not.",
            pages.first_round >= pages.touched > 0 and pages.second_round < pages.touched / 4,
            f"{pages.first_round} whole pages for {pages.touched} touched, then "
            f"{pages.second_round}",
        ),
    )


EXPERIMENT = Experiment(
    slug=_NAME,
    question="How many syncs does a commit cost, and which commits does a kill take back?",
    varied="what a commit waits for; how many clients commit at once",
    fixed="one row a commit, one disk, the same number of commits",
    run=run,
    topics=("D2",),
    needs=("postgres",),
)
