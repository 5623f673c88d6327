"""A proposer: it asks what may have been chosen, and proposes that, or else its own value. Pure.

Rules (tests cite them; section 2.2 of the paper)
    N    Two proposals never share a number: not of two proposers, not across a restart.
    2a   Once a majority of acceptors has promised a ballot, its proposer sends Accept with the
         value of the highest-numbered proposal among their answers; with its own if there is none.
    P2c  So whatever a majority may already have accepted is what every later ballot proposes.
    A    A refused ballot is given up, and the next one is above the one that was in its way.

Absent on purpose: when to begin the next ballot. That is liveness and needs a clock; two proposers
that begin too eagerly take each other's ballots away for ever (section 2.4; see patience.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from month5_kvstore.paxos.messages import (
    Accept,
    Ballot,
    Effect,
    Prepare,
    Promise,
    Proposal,
    ProposerRecord,
    Refused,
    Send,
    Store,
)


class Phase(StrEnum):
    """Where a proposer stands."""

    IDLE = "idle"
    PREPARING = "preparing"
    ACCEPTING = "accepting"


@dataclass(frozen=True, slots=True)
class Proposer:
    """One proposer. wanted: the value to propose if the choice is free. round: the highest that it
    used or heard of; a restart is `Proposer(id, acceptors, wanted, round=record.round)`.
    promises: who promised the current ballot. best: the highest-numbered proposal they reported.
    """

    id: int
    acceptors: tuple[int, ...]
    wanted: str
    round: int = 0
    phase: Phase = Phase.IDLE
    promises: frozenset[int] = frozenset()
    best: Proposal | None = None

    @property
    def ballot(self) -> Ballot:
        """The number of its current, or latest, proposal."""
        return Ballot(self.round, self.id)


ProposerStep = tuple[Proposer, tuple[Effect, ...]]


def majority(acceptors: int) -> int:
    """How many of `acceptors` are more than half: any two such sets share a member."""
    return acceptors // 2 + 1


def begin(proposer: Proposer) -> ProposerStep:
    """Phase 1a: take a new number, write it down, ask all acceptors. May be called at any time;
    what the ballot before it achieved is given up."""
    proposer = replace(
        proposer,
        round=proposer.round + 1,
        phase=Phase.PREPARING,
        promises=frozenset[int](),
        best=None,
    )
    asks = (Send(Prepare(proposer.id, to, proposer.ballot)) for to in proposer.acceptors)
    return proposer, (Store(ProposerRecord(proposer.round)), *asks)


def hear(proposer: Proposer, message: Promise | Refused) -> ProposerStep:
    """Take an acceptor's answer; returns where the proposer stands and what to carry out."""
    if message.ballot != proposer.ballot or proposer.phase is Phase.IDLE:
        return proposer, ()
    if isinstance(message, Refused):
        return _give_up(proposer, message), ()
    if proposer.phase is not Phase.PREPARING:
        return proposer, ()
    return _count(proposer, message)


def _give_up(proposer: Proposer, message: Refused) -> Proposer:
    """The round is raised in memory only: what is on disk is what was used."""
    highest = max(proposer.round, message.promised.round)
    return replace(proposer, round=highest, phase=Phase.IDLE)


def _count(proposer: Proposer, message: Promise) -> ProposerStep:
    best, reported = proposer.best, message.accepted
    if reported is not None and (best is None or reported.ballot > best.ballot):
        best = reported
    promises = proposer.promises | {message.sender}
    proposer = replace(proposer, promises=promises, best=best)
    if len(promises) < majority(len(proposer.acceptors)):
        return proposer, ()
    value = proposer.wanted if best is None else best.value
    proposal = Proposal(proposer.ballot, value)
    asks = (Send(Accept(proposer.id, to, proposal)) for to in proposer.acceptors)
    return replace(proposer, phase=Phase.ACCEPTING), tuple(asks)
