"""How stale is a read after a write while replicas lag, and what does freshness cost whom?

Both replicas replay every commit late on purpose. A writer writes, waits, reads its own row; how
often that is the old one is counted for each policy and each wait. Then one replica is late and
the other is not, and a reader watches a counter go up: how often does it go down? Last, the other
way to be fresh: commits that wait until every replica has replayed them.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import psycopg
from psycopg import sql

from month2_databases.experiments.replicated import KEY, Replicated, start_replicated
from month2_databases.replication import (
    ANY_REPLICA,
    MONOTONIC_READS,
    PRIMARY_ONLY,
    READ_YOUR_WRITES,
    ClientSession,
    PoolSizes,
    ReadPolicy,
    ServerRole,
    SessionRouter,
)
from scalelab.clock import SystemClock
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result, Role

LATE_MS = 250
WAITS_MS = (0, 100, 200, 500, 1000)
_QUERY = "SELECT v FROM note WHERE k = %s"

_POLICIES: dict[str, tuple[Role, ReadPolicy]] = {
    "any replica": ("control", ANY_REPLICA),
    "primary only": ("treatment", PRIMARY_ONLY),
    "read your writes": ("treatment", READ_YOUR_WRITES),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """So many reads after one wait: how many were stale, how many a replica answered."""

    reads: int
    stale: int
    on_replicas: int


@dataclass(frozen=True, slots=True)
class Backwards:
    """A reader of a counter that only goes up: reads, and how often it saw it go down."""

    reads: int
    steps_back: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Commits that wait for replay: stale reads from any replica, and how long a commit took."""

    reads: int
    stale: int
    commit_ms: float


async def put(session: ClientSession, key: str, value: int, *, wait: bool = False) -> None:
    """One write; with `wait` it returns once every replica shows it."""
    async with session.write() as writing:
        if wait:
            await writing.execute("SET LOCAL synchronous_commit TO remote_apply")
        await writing.execute(
            "INSERT INTO note (k, v) VALUES (%s, %s) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
            (key, value),
        )


async def get(session: ClientSession, key: str, policy: ReadPolicy) -> tuple[int, ServerRole]:
    """The value, -1 if the row is not there, and who answered."""
    read = session.read(policy)
    async with read as reading:
        row = await reading.fetch_one(_QUERY, (key,))
    return (-1 if row is None else row[0]), read.role


async def after_writes(
    router: SessionRouter, policy: ReadPolicy, *, wait_ms: int, writers: int
) -> Cell:
    """Each writer writes a row of its own, waits, and reads it; a stale read shows the old one."""

    async def writer() -> tuple[bool, ServerRole]:
        session, key = router.session(), f"w{next(_KEYS)}"
        await put(session, key, 1)
        await asyncio.sleep(wait_ms / 1000)
        value, role = await get(session, key, policy)
        return value != 1, role

    seen = await asyncio.gather(*(writer() for _ in range(writers)))
    on_replicas = sum(role is ServerRole.REPLICA for _, role in seen)
    return Cell(len(seen), sum(stale for stale, _ in seen), on_replicas)


_KEYS = itertools.count()


async def backwards(router: SessionRouter, policy: ReadPolicy, *, reads: int) -> Backwards:
    """Raise a counter and read it from elsewhere, in turns."""
    writer, reader, key = router.session(), router.session(), f"c{next(_KEYS)}"
    last, steps = -1, 0
    for value in range(reads):
        await put(writer, key, value)
        seen, _ = await get(reader, key, policy)
        steps += seen < last
        last = seen
    return Backwards(reads, steps)


async def waiting(router: SessionRouter, *, commits: int, wait: bool) -> Waiting:
    """Write, then read as somebody else from any replica."""
    stale: list[bool] = []
    took: list[float] = []
    for value in range(commits):
        key = f"a{next(_KEYS)}"
        begun_s = time.perf_counter()
        await put(router.session(), key, value, wait=wait)
        took.append((time.perf_counter() - begun_s) * 1000)
        seen, _ = await get(router.session(), key, ANY_REPLICA)
        stale.append(seen != value)
    return Waiting(commits, sum(stale), median(took))


def require(made: Replicated, *, all_of_them: bool) -> None:
    """Commits that ask for it wait for all replicas; the others, for none."""
    names = [replica.application_name for replica in made.cluster.replicas]
    quoted = ", ".join(f'"{name}"' for name in names)
    value = f"FIRST {len(names)} ({quoted})" if all_of_them else ""
    statement = sql.SQL("ALTER SYSTEM SET synchronous_standby_names = {}")
    with psycopg.connect(made.cluster.primary.superuser_dsn(), autocommit=True) as connection:
        connection.execute(statement.format(sql.Literal(value)))
        connection.execute("SELECT pg_reload_conf()")
        shown = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        wanted = len(names) if all_of_them else 0
        while connection.execute(shown).fetchone() != (wanted,):
            connection.execute("SELECT pg_sleep(0.02)")


def run(lab: Lab) -> Result:
    """All three questions on one cluster."""
    made = start_replicated(lab.runtime, "lag", settings={"synchronous_commit": "local"})
    return asyncio.run(_run(lab, made))


async def _run(lab: Lab, made: Replicated) -> Result:
    writers, reads, commits = (10, 60, 6) if lab.quick else (40, 400, 20)
    cluster = made.cluster
    cells: dict[str, dict[int, Cell]] = {name: {} for name in _POLICIES}
    # Roomy and patient pools: a full one would send reads to the primary, which is fresh.
    pools = PoolSizes(8, 8, 8, wait_s=20.0, replica_wait_s=20.0)
    router = SessionRouter(
        made.settings, token_keys=[KEY], clock=SystemClock(), pools=pools, poll_s=0.02
    )
    async with router:
        await asyncio.to_thread(_late, made, (LATE_MS, LATE_MS))
        for name, (_, policy) in _POLICIES.items():
            for wait_ms in WAITS_MS:
                cell = await after_writes(router, policy, wait_ms=wait_ms, writers=writers)
                cells[name][wait_ms] = cell
                lab.note(f"{name}, {wait_ms} ms: {cell.stale} of {cell.reads} stale")
        await asyncio.to_thread(_late, made, (LATE_MS, 0))
        walks = {
            name: await backwards(router, policy, reads=reads)
            for name, policy in (("any replica", ANY_REPLICA), ("monotonic", MONOTONIC_READS))
        }
        lab.note(f"steps back: {walks['any replica'].steps_back}, {walks['monotonic'].steps_back}")
        await asyncio.to_thread(_late, made, (LATE_MS, LATE_MS))
        await asyncio.to_thread(require, made, all_of_them=True)
        held = {wait: await waiting(router, commits=commits, wait=wait) for wait in (False, True)}
        await asyncio.to_thread(require, made, all_of_them=False)
        await asyncio.to_thread(_late, made, (0, 0))
    await asyncio.to_thread(lab.runtime.stop, cluster.name)
    return judge(cells, walks, held)


def _late(made: Replicated, delays_ms: tuple[int, int]) -> None:
    for number, delay_ms in enumerate(delays_ms, start=1):
        made.cluster.delay_replay(number, delay_ms)


def judge(
    cells: Mapping[str, Mapping[int, Cell]],
    walks: Mapping[str, Backwards],
    held: Mapping[bool, Waiting],
) -> Result:
    """The arms, and what is claimed of them."""
    arms = [
        Arm(
            name,
            role,
            {
                "stale_at_once": cells[name][0].stale,
                "stale_last": cells[name][WAITS_MS[-1]].stale,
                "reads_each": cells[name][0].reads,
                "on_replicas": sum(cell.on_replicas for cell in cells[name].values()),
            },
            tuple((float(ms), cell.stale / cell.reads) for ms, cell in cells[name].items()),
        )
        for name, (role, _) in _POLICIES.items()
    ]
    step = ((0.0, 1.0), (LATE_MS - 1.0, 1.0), (LATE_MS + 1.0, 0.0), (float(WAITS_MS[-1]), 0.0))
    arms.append(Arm(f"theory: replay {LATE_MS} ms late", "theory", {}, step))
    for name, walk in walks.items():
        figures = {"reads": walk.reads, "steps_back": walk.steps_back}
        arms.append(Arm(f"a counter, {name}", _role(name == "any replica"), figures))
    for wait, one in held.items():
        name = "commit waits for replay" if wait else "commit waits for nobody"
        figures = {"stale_of_any": one.stale, "reads": one.reads, "commit_ms": one.commit_ms}
        arms.append(Arm(name, _role(not wait), figures))
    return Result(
        arms=tuple(arms),
        shape=(*_stale_claims(cells), *_other_claims(walks, held)),
        plot=Plot(Axis("wait between write and read (ms)"), Axis("share of own reads stale")),
        notes=(
            f"Both replicas replay {LATE_MS} ms late by recovery_min_apply_delay.",
            "A busy machine makes replay later still, never earlier.",
        ),
    )


def _role(is_control: bool) -> Role:
    return "control" if is_control else "treatment"


def _stale_claims(cells: Mapping[str, Mapping[int, Cell]]) -> tuple[Claim, ...]:
    naive, primary, own = (cells[name] for name in _POLICIES)
    last = WAITS_MS[-1]
    stale = [sum(cell.stale for cell in one.values()) for one in (primary, own)]
    reads = sum(cell.reads for cell in own.values())
    return (
        Claim(
            "Read at once from any replica, own writes are missing.",
            naive[0].stale >= 0.8 * naive[0].reads,
            f"{naive[0].stale} of {naive[0].reads} stale",
        ),
        Claim(
            "Whoever waits several times the lag finds them.",
            naive[last].stale <= 0.2 * naive[last].reads,
            f"{naive[last].stale} of {naive[last].reads} stale after {last} ms",
        ),
        Claim(
            "Read-your-writes and the primary show every one of them, after any wait.",
            stale == [0, 0],
            f"{stale[1]} and {stale[0]} of {reads} stale",
        ),
        Claim(
            "Read-your-writes asks the primary at once after a write and replicas later.",
            own[0].on_replicas <= 0.2 * own[0].reads
            and own[last].on_replicas >= 0.8 * own[last].reads,
            f"on replicas: {own[0].on_replicas} of {own[0].reads} at once, "
            f"{own[last].on_replicas} of {own[last].reads} after {last} ms",
        ),
        Claim(
            "The primary alone spares itself nothing.",
            sum(cell.on_replicas for cell in primary.values()) == 0,
            "0 reads on replicas",
        ),
    )


def _other_claims(
    walks: Mapping[str, Backwards], held: Mapping[bool, Waiting]
) -> tuple[Claim, ...]:
    naive, monotonic = walks["any replica"], walks["monotonic"]
    free, waits = held[False], held[True]
    return (
        Claim(
            "Between a late and a timely replica a counter goes down; if read monotonically, not.",
            naive.steps_back > 0 and monotonic.steps_back == 0,
            f"{naive.steps_back} and {monotonic.steps_back} steps back in {naive.reads} reads each",
        ),
        Claim(
            "A commit that waits for replay leaves nothing stale on any replica.",
            waits.stale == 0 and free.stale >= 0.8 * free.reads,
            f"{waits.stale} of {waits.reads} stale, {free.stale} of {free.reads} without waiting",
        ),
        Claim(
            "It pays with the lag itself, every time.",
            waits.commit_ms >= 0.9 * LATE_MS and free.commit_ms < waits.commit_ms,
            f"{waits.commit_ms:.0f} ms a commit, {free.commit_ms:.1f} ms without waiting",
        ),
    )


EXPERIMENT = Experiment(
    slug="replication-lag",
    question="How stale is a read after a write while replicas lag, and who pays for freshness?",
    varied="who may answer a read; the wait between write and read; whether commits wait",
    fixed=f"one primary, two replicas that replay {LATE_MS} ms late",
    run=run,
    topics=("A5", "D1"),
    needs=("postgres",),
)
