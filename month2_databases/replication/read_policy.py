"""Read policy: which server may answer a read, and why. Pure.

Theory of operation
    A policy names what a reader must not notice; a session's past says how far a server has to
    be for that. Any replica may answer that has replayed the past's floor and whose answer is at
    most `max_staleness_s` old; where none is fit the primary answers.

        guarantee         floor                  a reader never sees
        PRIMARY           the primary itself     anything but the newest commit
        ANY               none                   (anything may be old)
        READ_YOUR_WRITES  own writes             its own write missing
        MONOTONIC_READS   what it saw before     time running backwards
        CAUSAL            both, and what came    an answer without its question, whoever wrote
                          with messages          either of them

    Bounded staleness is a number beside any of them, as the two do not exclude each other.

Invariants (tests cite them)
    I1  A candidate covers the floor and keeps the bound, as far as its last known position says.
    I2  A past that cannot be trusted (forged, of another cluster) means the primary, not an error,
        for every guarantee that needs a past.
    I3  Candidates stand in turn: over n turns each of n fit replicas comes first once.
    I4  The floor of CAUSAL covers the floors of READ_YOUR_WRITES and MONOTONIC_READS.

Absent on purpose: waiting until a replica has caught up (the primary answers meanwhile).
Source: Terry et al. 1994, "Session guarantees for weakly consistent replicated data"; differs in:
one log per cluster, so that a position takes the place of version vectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from month2_databases.replication.causal_past import Past, later
from month2_databases.replication.consistency_token import (
    ConsistencyToken,
    ReplayPosition,
    covers,
)
from scalelab.errors import InvalidInput


class Guarantee(StrEnum):
    """What a read promises (module docstring)."""

    PRIMARY = "primary"
    ANY = "any"
    READ_YOUR_WRITES = "read_your_writes"
    MONOTONIC_READS = "monotonic_reads"
    CAUSAL = "causal"


LEARNING = frozenset({Guarantee.MONOTONIC_READS, Guarantee.CAUSAL})
"""Guarantees for which a session has to note how new each read was: one question more a read."""


class ReadReason(StrEnum):
    """Why a read goes where it goes. The last five mean the primary."""

    ANY_WILL_DO = "any_will_do"
    FRESH_ENOUGH = "fresh_enough"
    CAUGHT_UP = "caught_up"
    ASKED_FOR = "asked_for"
    NO_REPLICA = "no_replica"
    BEHIND = "behind"
    TOO_STALE = "too_stale"
    TOKEN_REFUSED = "token_refused"


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """A guarantee and a bound. max_staleness_s: age of an answer at most, > 0; none by default."""

    guarantee: Guarantee
    max_staleness_s: float = math.inf

    def __post_init__(self) -> None:
        if not self.max_staleness_s > 0:
            raise InvalidInput(
                f"an answer cannot be at most {self.max_staleness_s} s old", field="max_staleness_s"
            )


PRIMARY_ONLY = ReadPolicy(Guarantee.PRIMARY)
ANY_REPLICA = ReadPolicy(Guarantee.ANY)
READ_YOUR_WRITES = ReadPolicy(Guarantee.READ_YOUR_WRITES)
MONOTONIC_READS = ReadPolicy(Guarantee.MONOTONIC_READS)
CAUSAL = ReadPolicy(Guarantee.CAUSAL)


def bounded_staleness(max_staleness_s: float, guarantee: Guarantee = Guarantee.ANY) -> ReadPolicy:
    """Answers at most so many seconds old, with or without a session guarantee beside it."""
    return ReadPolicy(guarantee, max_staleness_s)


class ReplicaView(NamedTuple):
    """A replica as last seen. position: None if it does not answer as a replica.

    stale_s: bound on the age of what it shows, infinite where nothing is known.
    """

    name: str
    position: ReplayPosition | None
    stale_s: float = math.inf


class Choice(NamedTuple):
    """candidates: replicas to try in this order, by index; none means the primary.

    floor: what whoever answers must have replayed, None if nothing is asked.
    """

    candidates: tuple[int, ...]
    reason: ReadReason
    floor: ConsistencyToken | None = None


def floor_of(guarantee: Guarantee, past: Past) -> ConsistencyToken | None:
    """The position that a server must have reached to keep the guarantee (I4)."""
    if guarantee is Guarantee.READ_YOUR_WRITES:
        return past.written
    if guarantee is Guarantee.MONOTONIC_READS:
        return past.seen
    if guarantee is Guarantee.CAUSAL:
        return later(past.written, past.seen)
    return None


def choose(
    policy: ReadPolicy, past: Past, replicas: Sequence[ReplicaView], *, cluster: str, turn: int
) -> Choice:
    """Who may answer, and why (I1, I2, I3). turn: counts up by one with each read.

    Cost: O(replicas), no I/O.
    """
    if policy.guarantee is Guarantee.PRIMARY:
        return Choice((), ReadReason.ASKED_FOR)
    if past.is_refused and policy.guarantee is not Guarantee.ANY:
        return Choice((), ReadReason.TOKEN_REFUSED)
    floor = floor_of(policy.guarantee, past)
    reason = ReadReason.NO_REPLICA
    count = len(replicas)
    fit: list[int] = []
    for step in range(count):
        index = (turn + step) % count
        view = replicas[index]
        if view.position is None:
            continue
        if floor is not None and not covers(view.position, cluster, floor):
            reason = ReadReason.BEHIND
        elif view.stale_s > policy.max_staleness_s:
            reason = ReadReason.TOO_STALE
        else:
            fit.append(index)
    if not fit:
        return Choice((), reason, floor)
    if floor is not None:
        reason = ReadReason.CAUGHT_UP
    elif policy.max_staleness_s != math.inf:
        reason = ReadReason.FRESH_ENOUGH
    else:
        reason = ReadReason.ANY_WILL_DO
    return Choice(tuple(fit), reason, floor)
