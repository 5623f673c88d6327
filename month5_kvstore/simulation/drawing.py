"""Draw a plan from a seed: some days are bad for elections, others for snapshots or for reads.

One mixture of everything finds the mistakes that any mixture finds. So each seed also has a
family, which says what its day is worst for; half of the seeds take a bit of everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

from month5_kvstore.raft import Settings
from month5_kvstore.simulation.plan import (
    CALM_US,
    SECOND_US,
    Act,
    ActKind,
    Fault,
    FaultKind,
    Plan,
    PlannedCall,
)


class Family(StrEnum):
    """What a day is worst for."""

    MIXED = "mixed"
    ELECTIONS = "elections"
    """Slow messages, clocks in step, leaders that are cut off, no pre-vote to calm things."""

    DISKS = "disks"
    """Crashes, slow syncs, short logs."""

    SNAPSHOTS = "snapshots"
    """Snapshots every few entries, crashes around them, messages that come twice and late."""

    READS = "reads"
    """Mostly reads, at leaders that nobody hears any more and whose clocks are slow."""

    MEMBERS = "members"
    """Members come and go all the time."""

    LEASE = "lease"
    """Reads by lease: clocks that run alike, and everything else as bad as ever."""


_NETWORK = (FaultKind.SPLIT, FaultKind.EXILE, FaultKind.DEAF, FaultKind.MUTE, FaultKind.CLOG)
_MESSAGES = (FaultKind.LOSS, FaultKind.REPEAT, FaultKind.DELAY)


@dataclass(frozen=True, slots=True)
class _Weather:
    """kinds: faults, repeated by weight. The next three: how likely a setting is on. lockstep:
    how likely clocks tick together. calls: factor on their rate; reads: share of them.
    acts: most changes of members and transfers. voters, compact, latency_ms: choices."""

    kinds: tuple[FaultKind, ...]
    pre_vote: float = 0.6
    check_quorum: float = 0.7
    lease: float = 0.0
    lockstep: float = 0.2
    uneven: float = 0.5
    calls: float = 1.0
    reads: float = 0.5
    faults_per_s: float = 2.0
    acts: int = 4
    voters: tuple[int, ...] = (3, 3, 5)
    compact: tuple[int, ...] = (4, 12, 1_000)
    latency_ms: tuple[int, ...] = (3, 3, 40)


_WEATHER = {
    Family.MIXED: _Weather(tuple(FaultKind)),
    Family.ELECTIONS: _Weather(
        (*_NETWORK, FaultKind.DELAY, FaultKind.CRASH, FaultKind.CRASH, FaultKind.CLOCK_JUMP),
        pre_vote=0.4,
        check_quorum=0.3,
        lockstep=0.7,
        faults_per_s=4.0,
        voters=(3, 5),
        latency_ms=(3, 40, 80),
    ),
    Family.DISKS: _Weather(
        (FaultKind.CRASH, FaultKind.CRASH, FaultKind.SLOW_DISK, FaultKind.SPLIT, FaultKind.LOSS),
        calls=2.0,
        reads=0.3,
        faults_per_s=4.0,
    ),
    Family.SNAPSHOTS: _Weather(
        (FaultKind.AMBUSH, FaultKind.AMBUSH, FaultKind.CRASH, FaultKind.CLOG, *_MESSAGES),
        calls=3.0,
        reads=0.3,
        faults_per_s=4.0,
        compact=(2, 4),
    ),
    Family.READS: _Weather(
        (*_NETWORK, *_MESSAGES, FaultKind.EXILE, FaultKind.CLOCK_SLOW, FaultKind.CRASH),
        check_quorum=0.3,
        calls=3.0,
        reads=0.7,
        faults_per_s=3.0,
    ),
    Family.MEMBERS: _Weather(tuple(FaultKind), calls=2.0, acts=12, compact=(3, 6, 1_000)),
    Family.LEASE: _Weather(
        (*_NETWORK, *_MESSAGES, FaultKind.EXILE, FaultKind.SLOW_DISK, FaultKind.CRASH),
        check_quorum=1.0,
        lease=1.0,
        uneven=0.0,
        calls=3.0,
        reads=0.7,
        faults_per_s=3.0,
    ),
}


def draw(
    seed: int,
    *,
    duration_us: int = 8 * SECOND_US,
    calls_per_s: float = 12.0,
    family: Family | None = None,
) -> Plan:
    """The plan of a seed: 3 or 5 voters, up to 2 spares, and much that hurts.

    family: the seed's own if None. The same arguments give the same plan on every machine and
    in every process.
    """
    random = Random(f"plan {seed}")
    own = random.choice(tuple(Family)) if random.random() < 0.5 else Family.MIXED
    weather = _WEATHER[family or own]
    count = random.choice(weather.voters)
    voters = tuple(range(1, count + 1))
    spares = tuple(range(count + 1, count + 1 + random.choice((0, 1, 2))))
    everyone = (*voters, *spares)
    stormy_us = max(duration_us - CALM_US, SECOND_US)
    settings = Settings(
        pre_vote=random.random() < weather.pre_vote,
        check_quorum=random.random() < weather.check_quorum,
        lease_reads=random.random() < weather.lease,
        inflight_max=random.choice((1, 4, 64)),
        append_bytes_max=random.choice((40, 200, 65536)),
        snapshot_patience_rounds=random.choice((3, 20)),
    )
    faults = _faults(random, weather, voters, spares, stormy_us)
    uneven = random.random() < weather.uneven
    return Plan(
        seed=seed,
        duration_us=duration_us,
        voters=voters,
        spares=spares,
        settings=settings,
        faults=tuple(sorted(faults, key=lambda fault: fault.at_us)),
        acts=_acts(random, weather, voters, spares, stormy_us),
        calls=_calls(random, weather, everyone, duration_us, calls_per_s),
        compact_entries=random.choice(weather.compact),
        latency_us=(300, random.choice(weather.latency_ms) * 1000),
        tick_us=tuple(random.randrange(35_000, 70_000) for _ in everyone) if uneven else (),
        lockstep=random.random() < weather.lockstep,
    )


def _faults(
    random: Random,
    weather: _Weather,
    voters: tuple[int, ...],
    spares: tuple[int, ...],
    stormy_us: int,
) -> list[Fault]:
    """A few faults a second, some of them together, all over at the end of the storm."""
    everyone = (*voters, *spares)
    faults: list[Fault] = []
    at_us = random.randrange(SECOND_US // 2, SECOND_US)
    while at_us < stormy_us:
        until_us = min(stormy_us, at_us + random.randrange(50_000, 1_500_000))
        kind = random.choice(weather.kinds)
        if kind is FaultKind.CLOG and random.random() < 0.5:
            faults += _swizzle(random, everyone, at_us, until_us)
        else:
            faults.append(_fault(random, kind, voters, everyone, at_us, until_us))
        at_us += int(random.expovariate(weather.faults_per_s) * SECOND_US)
    return faults


def _fault(
    random: Random,
    kind: FaultKind,
    voters: tuple[int, ...],
    everyone: tuple[int, ...],
    at_us: int,
    until_us: int,
) -> Fault:
    match kind:
        case FaultKind.LOSS | FaultKind.REPEAT:
            return Fault(kind, at_us, until_us, (), random.choice((5, 20, 50)))
        case FaultKind.DELAY:
            return Fault(kind, at_us, until_us, (), random.choice((10, 100, 600)))
        case FaultKind.SLOW_DISK:
            nodes = (random.choice(everyone),)
            return Fault(kind, at_us, until_us, nodes, random.choice((20, 200, 900)))
        case FaultKind.CLOCK_JUMP:
            return Fault(kind, at_us, at_us, (random.choice(everyone),), random.randrange(5, 40))
        case FaultKind.CLOCK_SLOW:
            return Fault(kind, at_us, until_us, (random.choice(everyone),), random.choice((20, 50)))
        case FaultKind.SPLIT | FaultKind.DEAF | FaultKind.MUTE:
            size = random.randrange(1, len(voters) // 2 + 1)
            return Fault(kind, at_us, until_us, tuple(sorted(random.sample(voters, size))))
        case FaultKind.CRASH | FaultKind.AMBUSH:
            size = random.choice((1, 1, len(voters)))
            return Fault(kind, at_us, until_us, tuple(sorted(random.sample(voters, size))))
        case FaultKind.EXILE:
            return Fault(kind, at_us, until_us)
        case FaultKind.PAUSE | FaultKind.CLOG:
            return Fault(kind, at_us, until_us, (random.choice(everyone),))


def _swizzle(random: Random, nodes: tuple[int, ...], at_us: int, until_us: int) -> list[Fault]:
    """Clog several nodes one after another, and free them in another order."""
    chosen = random.sample(nodes, random.randrange(1, len(nodes) + 1))
    half_us = (until_us - at_us) // 2
    starts = sorted(at_us + random.randrange(half_us + 1) for _ in chosen)
    ends = [at_us + half_us + random.randrange(half_us + 1) for _ in chosen]
    return [
        Fault(FaultKind.CLOG, start, end, (node,))
        for node, start, end in zip(chosen, starts, ends, strict=True)
    ]


def _acts(
    random: Random,
    weather: _Weather,
    voters: tuple[int, ...],
    spares: tuple[int, ...],
    stormy_us: int,
) -> tuple[Act, ...]:
    """A few transfers and membership changes."""
    acts: list[Act] = []
    everyone = (*voters, *spares)
    for _ in range(random.randrange(weather.acts)):
        at_us = random.randrange(SECOND_US // 2, stormy_us + 1)
        if random.random() < 0.4:
            acts.append(Act(ActKind.TRANSFER, at_us, (random.choice(voters),)))
        elif spares and random.random() < 0.3:
            acts.append(Act(ActKind.LEARN, at_us, (random.choice(spares),)))
        else:
            size = random.randrange(max(1, len(voters) - 1), len(everyone) + 1)
            acts.append(Act(ActKind.MEMBERS, at_us, tuple(sorted(random.sample(everyone, size)))))
    return tuple(sorted(acts, key=lambda act: act.at_us))


def _calls(
    random: Random,
    weather: _Weather,
    nodes: tuple[int, ...],
    duration_us: int,
    calls_per_s: float,
) -> tuple[PlannedCall, ...]:
    """Calls all along on few keys, so that they meet; every written value is unique."""
    calls: list[PlannedCall] = []
    at_us, number = 0, 0
    keys = "abcdef"[: 2 * int(weather.calls)]
    written = {key: [0] for key in keys}
    while True:
        at_us += 1 + int(random.expovariate(calls_per_s * weather.calls) * SECOND_US)
        if at_us >= duration_us - SECOND_US:
            return tuple(calls)
        number += 1
        key = random.choice(keys)
        dice = random.random()
        verb, arguments = "get", ()
        if dice < 0.8 * (1 - weather.reads):
            verb, arguments = "put", (number,)
        elif dice < 1 - weather.reads:
            verb, arguments = "cas", (random.choice(written[key][-4:]), number)
        if arguments:
            written[key].append(number)
        calls.append(PlannedCall(number, at_us, random.choice(nodes), key, verb, arguments))
