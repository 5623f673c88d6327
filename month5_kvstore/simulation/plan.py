"""What will happen to a cluster, decided beforehand: faults, calls and operators' acts by time.

A plan is drawn from a seed and is a plain value. That is what makes a failing seed shrinkable:
leave things out, run again, see whether it still fails. All times are virtual microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

from month5_kvstore.raft import Settings

SECOND_US = 1_000_000
TICK_US = 50_000
CALM_US = 3 * SECOND_US
"""At the end nothing is broken any more for so long: then the cluster must work again."""


class FaultKind(StrEnum):
    """What can be done to a cluster."""

    CRASH = "crash"
    """The process ends; unsynced writes are lost but for some first ones, the last torn."""

    PAUSE = "pause"
    """The process stands still; what arrives meanwhile is waiting for it afterwards."""

    SPLIT = "split"
    """No message between `nodes` and the others."""

    DEAF = "deaf"
    """One way: `nodes` hear nobody else, but are heard."""

    MUTE = "mute"
    """One way: `nodes` are heard by nobody else, but hear."""

    CLOG = "clog"
    """Messages from and to `nodes` are held back and all arrive at the end."""

    LOSS = "loss"
    """A share (`amount` in percent) of all messages is lost."""

    REPEAT = "repeat"
    """A share of all messages arrives twice, the second time much later."""

    DELAY = "delay"
    """Messages take up to `amount` ms longer, each for itself: they overtake each other."""

    SLOW_DISK = "slow disk"
    """Every sync of `nodes` takes `amount` ms longer."""

    CLOCK_JUMP = "clock jump"
    """The clock of `nodes` jumps ahead by `amount` ticks at once."""

    CLOCK_SLOW = "slow clock"
    """The clock of `nodes` runs at `amount` percent of its speed."""


class ActKind(StrEnum):
    """What an operator asks of the leader."""

    TRANSFER = "transfer"
    """Hand leadership to `nodes[0]`."""

    MEMBERS = "members"
    """Make `nodes` the voters."""

    LEARN = "learn"
    """Let `nodes` be taught without a vote."""


@dataclass(frozen=True, slots=True)
class Fault:
    """kind, when it begins and ends, whom it concerns (ids; empty: all), how much."""

    kind: FaultKind
    at_us: int
    until_us: int
    nodes: tuple[int, ...] = ()
    amount: int = 0


@dataclass(frozen=True, slots=True)
class Act:
    """An operator's wish; whoever leads then hears it, or nobody does."""

    kind: ActKind
    at_us: int
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A client's call: `get`, `put` or `cas` (expected, wanted) on a key, first asked of `node`."""

    number: int
    at_us: int
    node: int
    key: str
    verb: str
    arguments: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. voters: ids at the start; spares: ids that run, but belong to no group yet."""

    seed: int
    duration_us: int
    voters: tuple[int, ...]
    spares: tuple[int, ...]
    settings: Settings
    faults: tuple[Fault, ...]
    acts: tuple[Act, ...]
    calls: tuple[PlannedCall, ...]
    compact_entries: int = 25

    @property
    def nodes(self) -> tuple[int, ...]:
        """Every id that runs."""
        return (*self.voters, *self.spares)


def draw(seed: int, *, duration_us: int = 8 * SECOND_US, calls_per_s: float = 12.0) -> Plan:
    """The plan of a seed: 3 or 5 voters, up to 2 spares, and a bit of everything that hurts.

    The same seed and lengths give the same plan on every machine and in every process.
    """
    random = Random(f"plan {seed}")
    count = random.choice((3, 3, 5))
    voters = tuple(range(1, count + 1))
    spares = tuple(range(count + 1, count + 1 + random.choice((0, 1, 2))))
    stormy_us = max(duration_us - CALM_US, SECOND_US)
    faults = _faults(random, voters, spares, stormy_us)
    settings = Settings(
        pre_vote=random.random() < 0.8,
        inflight_max=random.choice((1, 4, 64)),
        append_bytes_max=random.choice((40, 200, 65536)),
    )
    return Plan(
        seed=seed,
        duration_us=duration_us,
        voters=voters,
        spares=spares,
        settings=settings,
        faults=tuple(sorted(faults, key=lambda fault: fault.at_us)),
        acts=_acts(random, voters, spares, stormy_us),
        calls=_calls(random, (*voters, *spares), duration_us, calls_per_s),
        compact_entries=random.choice((6, 12, 1_000)),
    )


def _faults(
    random: Random, voters: tuple[int, ...], spares: tuple[int, ...], stormy_us: int
) -> list[Fault]:
    """About two faults a second, some of them together, all over at the end of the storm."""
    everyone = (*voters, *spares)
    faults: list[Fault] = []
    at_us = random.randrange(SECOND_US // 2, SECOND_US)
    while at_us < stormy_us:
        until_us = min(stormy_us, at_us + random.randrange(50_000, 1_500_000))
        kind = random.choice(tuple(FaultKind))
        if kind is FaultKind.CLOG and random.random() < 0.5:
            faults += _swizzle(random, everyone, at_us, until_us)
        else:
            faults.append(_fault(random, kind, voters, everyone, at_us, until_us))
        at_us += int(random.expovariate(2.0) * SECOND_US)
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
        case FaultKind.CRASH:
            size = random.choice((1, 1, len(voters)))
            return Fault(kind, at_us, until_us, tuple(sorted(random.sample(voters, size))))
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
    random: Random, voters: tuple[int, ...], spares: tuple[int, ...], stormy_us: int
) -> tuple[Act, ...]:
    """A few transfers and membership changes; the last one brings the first members back."""
    acts: list[Act] = []
    everyone = (*voters, *spares)
    for _ in range(random.randrange(4)):
        at_us = random.randrange(SECOND_US, stormy_us + 1)
        if random.random() < 0.4:
            acts.append(Act(ActKind.TRANSFER, at_us, (random.choice(voters),)))
        elif spares and random.random() < 0.3:
            acts.append(Act(ActKind.LEARN, at_us, (random.choice(spares),)))
        else:
            size = random.randrange(max(1, len(voters) - 1), len(everyone) + 1)
            acts.append(Act(ActKind.MEMBERS, at_us, tuple(sorted(random.sample(everyone, size)))))
    return tuple(sorted(acts, key=lambda act: act.at_us))


def _calls(
    random: Random, nodes: tuple[int, ...], duration_us: int, calls_per_s: float
) -> tuple[PlannedCall, ...]:
    """Calls all along on few keys, so that they meet; every written value is unique."""
    calls: list[PlannedCall] = []
    at_us, number = 0, 0
    written: dict[str, list[int]] = {"a": [0], "b": [0]}
    while True:
        at_us += 1 + int(random.expovariate(calls_per_s) * SECOND_US)
        if at_us >= duration_us - SECOND_US:
            return tuple(calls)
        number += 1
        key = random.choice(("a", "b"))
        dice = random.random()
        verb, arguments = "get", ()
        if dice < 0.4:
            verb, arguments = "put", (number,)
        elif dice < 0.5:
            verb, arguments = "cas", (random.choice(written[key][-4:]), number)
        if arguments:
            written[key].append(number)
        calls.append(PlannedCall(number, at_us, random.choice(nodes), key, verb, arguments))
