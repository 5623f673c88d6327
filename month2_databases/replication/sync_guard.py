"""Sync guard: commits wait for a replica while there is one, and go on alone after a while. Pure.

Theory of operation
    SYNCHRONOUS   `synchronous_standby_names` names the replicas; a commit returns when one of
                  them has it on disk. The loss of one machine loses nothing acknowledged.
    DEGRADED      it is empty; commits return when the primary has them on disk.

    A replica counts as attached while it streams, is not far behind, and has been heard of within
    `suspect_after_s` (a hung process keeps its connection). Alone for more than `alone_limit_s`
    the guard gives waiting commits free; as soon as a replica is attached it demands it again.
    Availability is bought with durability, so the state is reported, never silent.

Invariants (tests cite them)
    I1  It never relaxes before `alone_limit_s` alone without interruption.
    I2  It never requires a replica that is not attached.
    I3  What the server is set to is taken from the server, not remembered: a guard that restarts
        decides as the one before it would have.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Mode(Enum):
    """What commits on the primary wait for."""

    SYNCHRONOUS = "synchronous"
    DEGRADED = "degraded"


class Action(Enum):
    """What the driver has to do to the server's setting."""

    NOTHING = "nothing"
    REQUIRE = "require"
    RELAX = "relax"


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """alone_limit_s: waiting commits are held this long. suspect_after_s: silence of a replica.

    suspect_after_s must exceed the replica's wal_receiver_status_interval. lag_limit_bytes: what a
    returning replica may lack when it is required again.
    """

    alone_limit_s: float = 5.0
    suspect_after_s: float = 3.0
    lag_limit_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Standby:
    """A configured replica as the primary sees it. silent_s: since its last reply."""

    is_streaming: bool
    silent_s: float
    lag_bytes: int


@dataclass(frozen=True, slots=True)
class GuardState:
    """alone_since_s: monotonic instant at which no replica was attached any more, else None."""

    alone_since_s: float | None = None


def decide(
    state: GuardState,
    policy: GuardPolicy,
    *,
    mode: Mode,
    standbys: tuple[Standby, ...],
    now_s: float,
) -> tuple[GuardState, Action]:
    """The next state and what to do, given the server's mode and the replicas it sees."""
    if any(_is_attached(standby, policy, mode) for standby in standbys):
        return GuardState(), Action.REQUIRE if mode is Mode.DEGRADED else Action.NOTHING
    since_s = now_s if state.alone_since_s is None else state.alone_since_s
    too_long = now_s - since_s > policy.alone_limit_s
    relax = mode is Mode.SYNCHRONOUS and too_long
    return GuardState(since_s), Action.RELAX if relax else Action.NOTHING


def _is_attached(standby: Standby, policy: GuardPolicy, mode: Mode) -> bool:
    if not standby.is_streaming or standby.silent_s > policy.suspect_after_s:
        return False
    # While commits wait for it, a busy replica may be behind for a moment without being away.
    return mode is Mode.SYNCHRONOUS or standby.lag_bytes <= policy.lag_limit_bytes
