"""A learner: it finds out that a value has been chosen. Pure.

Rules (tests cite them; section 2.3 of the paper)
    L    A value is chosen once a majority of acceptors has accepted one proposal: the same ballot,
         not merely the same value, and each acceptor counted once.

A learner that missed messages does not know; to find out, it lets a proposer begin a ballot, which
proposes what was chosen once more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from month5_kvstore.paxos.messages import Accepted, Ballot
from month5_kvstore.paxos.proposer import majority


@dataclass(frozen=True, slots=True)
class Learner:
    """One learner. acceptors: how many there are. seen: (ballot, acceptor) of each acceptance.
    chosen: the value, None until it is known; never changes."""

    id: int
    acceptors: int
    seen: frozenset[tuple[Ballot, int]] = frozenset()
    chosen: str | None = None


def learn(learner: Learner, message: Accepted) -> Learner:
    """Take one acceptor's word."""
    if learner.chosen is not None:
        return learner
    ballot = message.proposal.ballot
    seen = learner.seen | {(ballot, message.sender)}
    votes = sum(1 for accepted, _ in seen if accepted == ballot)
    chosen = message.proposal.value if votes >= majority(learner.acceptors) else None
    return replace(learner, seen=seen, chosen=chosen)
