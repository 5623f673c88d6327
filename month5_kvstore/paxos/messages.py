"""Proposal numbers, proposals, and what the three kinds of agents say to each other.

"Ballot" is the number of a proposal ("The part-time parliament"); "Paxos made simple" says number.
Messages may be lost, repeated, late and in any order; every rule that reads one is written for
that. Agents are named by integers >= 1. A node may be all three kinds at once under one number.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Ballot:
    """The number of a proposal: ordered, and never used by two proposers, since each puts its own
    name into it. round: >= 1."""

    round: int
    proposer: int


NO_BALLOT = Ballot(0, 0)
"""Below every ballot."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A value under a number."""

    ballot: Ballot
    value: str


@dataclass(frozen=True, slots=True)
class Prepare:
    """Phase 1a: promise to accept nothing below `ballot`, and say what you accepted."""

    sender: int
    to: int
    ballot: Ballot


@dataclass(frozen=True, slots=True)
class Promise:
    """Phase 1b: promised. accepted: the highest-numbered proposal accepted so far, if any."""

    sender: int
    to: int
    ballot: Ballot
    accepted: Proposal | None


@dataclass(frozen=True, slots=True)
class Accept:
    """Phase 2a: accept this proposal."""

    sender: int
    to: int
    proposal: Proposal


@dataclass(frozen=True, slots=True)
class Accepted:
    """Phase 2b: the sender accepted this proposal. Goes to every learner."""

    sender: int
    to: int
    proposal: Proposal


@dataclass(frozen=True, slots=True)
class Refused:
    """The sender has promised `promised`, so `ballot` is lost. For speed only (end of 2.2)."""

    sender: int
    to: int
    ballot: Ballot
    promised: Ballot


Message = Prepare | Promise | Accept | Accepted | Refused


@dataclass(frozen=True, slots=True)
class AcceptorRecord:
    """What an acceptor must not forget: the highest ballot promised, the last proposal accepted."""

    promised: Ballot = NO_BALLOT
    accepted: Proposal | None = None


NOTHING = AcceptorRecord()
"""Of an acceptor that has not promised anything yet."""


@dataclass(frozen=True, slots=True)
class ProposerRecord:
    """What a proposer must not forget: the highest round it has used. One used twice, with
    another value, is two proposals under one number."""

    round: int = 0


@dataclass(frozen=True, slots=True)
class Store:
    """Write the record and wait until it is on disk. What follows in the list says that it is."""

    record: AcceptorRecord | ProposerRecord


@dataclass(frozen=True, slots=True)
class Send:
    """Hand a message to the network."""

    message: Message


Effect = Store | Send
"""Carried out one after the other, in the order given. A crash between two loses the rest."""
