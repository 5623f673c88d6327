"""Where does one server end, and what do replicas add?

First the limits of one: buffers (which share of block reads finds its block in memory), connections
(how many are let in), cores (how much of one each connection gets). Then the same readers on one,
two and three replicas. Their reads hold a connection without using the processor, as a read that
waits for a disk does: so the servers of this one machine do not fight for its cores, and what is
counted is what connections carry.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

import psutil
import psycopg
from psycopg import AsyncConnection

from month2_databases.experiments.replicated import KEY, Replicated, start_replicated
from month2_databases.replication import (
    ANY_REPLICA,
    PoolSizes,
    Reading,
    ReadRouted,
    ServerRole,
    SessionRouter,
)
from scalelab.clock import SystemClock
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.course.machine import usable_cores
from scalelab.lab.servers import Postgres

REPLICAS = 3
POOL = 4
HELD_S = 0.1
READERS = 30
BLOCKS = 2000
BUFFERS_MB = (2, 8, 32)
CONNECTIONS = 12
RESERVED = 3
_BLOCK_KIB = 8
_TOLERANCE = 0.12


@dataclass(frozen=True, slots=True)
class Vertical:
    """One server. hits: share of block reads found in memory, by buffers in MiB. let_in, refused:
    of `READERS` connections. share: of a core, that each of `crowd` busy connections got."""

    hits: Mapping[int, float]
    let_in: int
    refused: int
    crowd: int
    share: float


@dataclass(frozen=True, slots=True)
class Rate:
    """Reads of a round, by the role of who answered, and a second."""

    reads_per_s: float
    on_primary: int
    on_replicas: int


def buffer_hits(lab: Lab, size_mb: int, *, lookups: int) -> float:
    """Read random blocks of a table of `BLOCKS` blocks, each a row; count where they are found."""
    settings = {"shared_buffers": f"{size_mb}MB", "autovacuum": "off"}
    server = Postgres(f"buffers-{size_mb}", settings=settings)
    lab.runtime.start(server)
    random = lab.random()
    with psycopg.connect(server.superuser_dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE wide (filler text)")
        connection.execute("ALTER TABLE wide ALTER filler SET STORAGE PLAIN")  # one row a block
        connection.execute(
            "INSERT INTO wide SELECT repeat('x', 4200) FROM generate_series(1, %s)", (BLOCKS,)
        )
        _look_up(connection, random, lookups)  # fills what there is room for
        before = _block_reads(connection)
        _look_up(connection, random, lookups)
        hit, read = (b - a for a, b in zip(before, _block_reads(connection), strict=True))
    lab.runtime.stop(server.name)
    return hit / (hit + read)


def _look_up(connection: psycopg.Connection, random: Random, lookups: int) -> None:
    query = "SELECT length(filler) FROM wide WHERE ctid = %s::tid"
    for _ in range(lookups):
        row = connection.execute(query, (f"({random.randrange(BLOCKS)},1)",)).fetchone()
        assert row == (4200,)


def _block_reads(connection: psycopg.Connection) -> tuple[int, int]:
    """Hits and reads of the table's blocks so far, this session's included."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    connection.execute("SELECT pg_stat_clear_snapshot()")
    row = connection.execute(
        "SELECT heap_blks_hit, heap_blks_read FROM pg_statio_user_tables WHERE relname = 'wide'"
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


async def knock(dsn: str) -> int:
    """Open `READERS` connections and keep them; how many were let in."""
    opened: list[AsyncConnection] = []
    try:
        for _ in range(READERS):
            try:
                opened.append(await AsyncConnection.connect(dsn, autocommit=True))
            except psycopg.OperationalError as refused:
                if "remaining connection slots" not in str(refused) and "too many" not in str(
                    refused
                ):
                    raise
    finally:
        for one in opened:
            await one.close()
    return len(opened)


async def core_share(dsn: str, *, crowd: int, seconds: float) -> float:
    """Keep `crowd` connections computing; the processor's share that one got on average."""
    opened = [await AsyncConnection.connect(dsn, autocommit=True) for _ in range(crowd)]
    backends = [psutil.Process(one.info.backend_pid) for one in opened]

    async def compute(conn: AsyncConnection, until_s: float) -> None:
        while time.monotonic() < until_s:
            await conn.execute("SELECT sum(n) FROM generate_series(1, 100000) n")

    begun_s, used = time.monotonic(), [sum(one.cpu_times()[:2]) for one in backends]
    await asyncio.gather(*(compute(one, begun_s + seconds) for one in opened))
    took_s = time.monotonic() - begun_s
    spent = [sum(one.cpu_times()[:2]) - was for one, was in zip(backends, used, strict=True)]
    for one in opened:
        await one.close()
    return sum(spent) / crowd / took_s


def vertical(lab: Lab) -> Vertical:
    """All three limits of one server."""
    lookups = 4000 if lab.quick else 30_000
    hits = {size: buffer_hits(lab, size, lookups=lookups) for size in BUFFERS_MB}
    lab.note("block reads that hit: " + ", ".join(f"{hits[mb]:.0%} of {mb} MB" for mb in hits))
    reserved = {"superuser_reserved_connections": str(RESERVED)}
    server = Postgres("crowded", settings={"max_connections": str(CONNECTIONS), **reserved})
    lab.runtime.start(server)
    dsn = server.ensure_database("crowd", "crowd")
    let_in = asyncio.run(knock(dsn))
    crowd = min(4 * usable_cores(), CONNECTIONS - RESERVED)
    share = asyncio.run(core_share(dsn, crowd=crowd, seconds=2.0 if lab.quick else 8.0))
    lab.note(f"{let_in} of {READERS} let in; {crowd} busy ones got {share:.2f} of a core each")
    lab.runtime.stop(server.name)
    return Vertical(hits, let_in, READERS - let_in, crowd, share)


async def rate(made: Replicated, replicas: int, *, seconds: float) -> Rate:
    """`READERS` clients that read without a pause, from so many replicas; 0: from the primary."""
    roles: list[ServerRole] = []

    def note(event: ReadRouted) -> None:
        roles.append(event.role)

    pools = PoolSizes(1, POOL, POOL, wait_s=60.0, replica_wait_s=60.0)
    settings = replace(made.settings, replicas=made.settings.replicas[:replicas])
    router = SessionRouter(
        settings,
        token_keys=[KEY],
        clock=SystemClock(),
        pools=pools,
        read_timeout_s=60.0,
        hooks=[note],
    )

    async def work(reading: Reading) -> None:
        await reading.fetch_one("SELECT pg_sleep(%s)", (HELD_S,))

    async def reader(until_s: float) -> None:
        session = router.session()
        while time.monotonic() < until_s:
            await session.run(ANY_REPLICA, work)

    async with router:
        async with asyncio.timeout(60):
            known = 0
            while known < replicas:
                await asyncio.sleep(0.02)
                known = sum(view.position is not None for view in router.cluster.views())
        await asyncio.gather(*(reader(0) for _ in range(READERS)))
        await asyncio.gather(*(reader(time.monotonic() + 0.5) for _ in range(READERS)))  # opens all
        roles.clear()
        begun_s = time.monotonic()
        await asyncio.gather(*(reader(begun_s + seconds) for _ in range(READERS)))
        took_s = time.monotonic() - begun_s
    on_replicas = sum(role is ServerRole.REPLICA for role in roles)
    return Rate(len(roles) / took_s, len(roles) - on_replicas, on_replicas)


def run(lab: Lab) -> Result:
    """One server's limits, then one to three replicas."""
    limits = vertical(lab)
    made = start_replicated(lab.runtime, "scaling", replicas=REPLICAS, settings={"fsync": "off"})
    rates: dict[int, Rate] = {}
    for replicas in range(REPLICAS + 1):
        rates[replicas] = asyncio.run(rate(made, replicas, seconds=3.0 if lab.quick else 12.0))
        lab.note(f"{replicas} replicas: {rates[replicas].reads_per_s:.0f} reads/s")
    for server in (*made.cluster.replicas, made.cluster.primary):
        lab.runtime.stop(server.name)
    return judge(limits, rates)


def judge(limits: Vertical, rates: Mapping[int, Rate]) -> Result:
    """The arms, and what is claimed of them."""
    arms = [
        Arm(
            "reads on replicas",
            "treatment",
            {f"reads_per_s_{n}": round(one.reads_per_s) for n, one in rates.items() if n},
            tuple((float(n), one.reads_per_s) for n, one in rates.items() if n),
        ),
        Arm(
            "the primary alone",
            "control",
            {"reads_per_s_1": round(rates[0].reads_per_s)},
            ((1.0, rates[0].reads_per_s), (float(REPLICAS), rates[0].reads_per_s)),
        ),
        Arm(
            "theory: servers × pool / time held",
            "theory",
            {},
            tuple((float(n), n * POOL / HELD_S) for n in range(1, REPLICAS + 1)),
        ),
        Arm(
            "one server: buffers",
            "limit",
            {f"hits_{mb}_mb": round(share, 3) for mb, share in limits.hits.items()},
        ),
        Arm(
            "one server: connections",
            "limit",
            {"let_in": limits.let_in, "refused": limits.refused},
        ),
        Arm(
            "one server: cores",
            "limit",
            {"connections": limits.crowd, "core_share_each": round(limits.share, 3)},
        ),
    ]
    return Result(
        arms=tuple(arms),
        shape=(*_vertical_claims(limits), *_horizontal_claims(rates)),
        plot=Plot(Axis("servers that answer reads"), Axis("reads/s")),
        notes=(
            f"A read holds its connection for {HELD_S * 1000:.0f} ms and computes next to nothing: "
            "replicas on one machine share its cores, so only what connections carry can scale.",
        ),
    )


def expected_hits(size_mb: int) -> float:
    """Uniform reads: the share of the table that the buffers hold."""
    return min(1.0, size_mb * 1024 / _BLOCK_KIB / BLOCKS)


def _vertical_claims(limits: Vertical) -> tuple[Claim, ...]:
    gaps = [abs(share - expected_hits(mb)) for mb, share in limits.hits.items()]
    shares = list(limits.hits.values())
    cores = usable_cores()
    return (
        Claim(
            "Buffers answer the share of reads that they hold of the table, up to all of it.",
            max(gaps) <= _TOLERANCE and shares == sorted(shares),
            ", ".join(
                f"{share:.0%} at {mb} MB (expected {expected_hits(mb):.0%})"
                for mb, share in limits.hits.items()
            ),
        ),
        Claim(
            "Connections end at an exact number, and who comes later is refused.",
            limits.let_in == CONNECTIONS - RESERVED,
            f"{limits.let_in} of {READERS} let in, {limits.refused} refused",
        ),
        Claim(
            "More busy connections than cores: each gets the fraction of a core, and no more.",
            limits.share <= 1.1 * cores / limits.crowd,
            f"{limits.crowd} connections on {cores} cores got {limits.share:.2f} of a core each",
        ),
    )


def _horizontal_claims(rates: Mapping[int, Rate]) -> tuple[Claim, ...]:
    one, two, three = (rates[n].reads_per_s for n in (1, 2, 3))
    ceilings = [rates[n].reads_per_s / (max(n, 1) * POOL / HELD_S) for n in rates]
    return (
        Claim(
            "Two replicas carry at least 1.5 times, three at least twice what one does.",
            two >= 1.5 * one and three >= 2.0 * one,
            f"{one:.0f}, {two:.0f}, {three:.0f} reads/s",
        ),
        Claim(
            "No number of readers gets more out of a server than its connections carry.",
            max(ceilings) <= 1.02,
            f"at most {max(ceilings):.0%} of servers × pool / time held",
        ),
        Claim(
            "With a replica there the primary answers no read.",
            all(rates[n].on_primary == 0 for n in rates if n) and rates[0].on_replicas == 0,
            f"{sum(rates[n].on_primary for n in rates if n)} of "
            f"{sum(rates[n].on_replicas for n in rates)} reads",
        ),
    )


EXPERIMENT = Experiment(
    slug="read-scaling",
    question="Where does one database server end, and what do replicas add?",
    varied="buffers, connections and busy sessions of one server; the number of replicas",
    fixed=f"{READERS} readers, pools of {POOL} connections a server, the time a read is held",
    run=run,
    topics=("A13",),
    needs=("postgres",),
)
