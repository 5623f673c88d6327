"""What will happen to a cluster, decided beforehand: faults, calls and operators' acts by time.

A plan is drawn from a seed (see drawing.py) and is a plain value. That is what makes a failing
seed shrinkable: leave things out, run again, see whether it still fails. All times are virtual
microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from month5_kvstore.raft import Settings

SECOND_US = 1_000_000
TICK_US = 50_000
CALM_US = 3 * SECOND_US
"""At the end nothing is broken any more for so long: then the cluster must work again."""


class FaultKind(StrEnum):
    """What can be done to a cluster."""

    CRASH = "crash"
    """The process ends; unsynced writes are lost but for some first ones, the last torn."""

    AMBUSH = "ambush"
    """`nodes` crash around the moment at which their next snapshot reaches the disk."""

    PAUSE = "pause"
    """The process stands still; what arrives meanwhile is waiting for it afterwards."""

    SPLIT = "split"
    """No message between `nodes` and the others."""

    EXILE = "exile"
    """Whoever leads when it begins is split from all others; clients still reach it."""

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
    """The clock of `nodes` runs at `amount` percent of its own speed."""


OF_NODES = (
    FaultKind.CRASH,
    FaultKind.AMBUSH,
    FaultKind.PAUSE,
    FaultKind.SLOW_DISK,
    FaultKind.CLOCK_JUMP,
    FaultKind.CLOCK_SLOW,
)
"""Faults of the nodes themselves; the others are the network's."""


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
    """One run. voters: ids at the start; spares: ids that run, but belong to no group yet.

    compact_entries: applied entries between two snapshots. latency_us: a message takes from here
    to there on a good day. tick_us: how long a tick of each of `nodes` takes, one for all if
    empty. lockstep: all clocks tick at the same instants.
    """

    seed: int
    duration_us: int
    voters: tuple[int, ...]
    spares: tuple[int, ...]
    settings: Settings
    faults: tuple[Fault, ...]
    acts: tuple[Act, ...]
    calls: tuple[PlannedCall, ...]
    compact_entries: int = 25
    latency_us: tuple[int, int] = (300, 3_000)
    tick_us: tuple[int, ...] = ()
    lockstep: bool = False

    @property
    def nodes(self) -> tuple[int, ...]:
        """Every id that runs."""
        return (*self.voters, *self.spares)

    @property
    def stormy_us(self) -> int:
        """When the last fault is over."""
        return max(self.duration_us - CALM_US, SECOND_US)
