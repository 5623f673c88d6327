"""Mistakes that people make in Paxos: each planted alone, and each to be caught.

As in the zoo for Raft a specimen is one passage of the true source, replaced. The enumeration
finds it in the smallest instance that shows it; what it cannot reach, seeded runs find.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from month5_kvstore.paxos.enumeration import Explored, Instance
from month5_kvstore.paxos.runs import Outcome
from month5_kvstore.simulation.planting import Planted

_TWO = Instance()


@dataclass(frozen=True, slots=True)
class Bug:
    """name: the mistake. file: in this room. before: the passage; after: the mistake. instance: in
    which the enumeration finds it; None: seeded runs do. seed: the first one to try, where the
    story is a rare one (three ballots under way at once)."""

    name: str
    file: str
    before: str
    after: str
    instance: Instance | None = _TWO
    seed: int = 0


BUGS: tuple[Bug, ...] = (
    Bug(
        "accepts below its promise (P1a)",
        "acceptor.py",
        "    if proposal.ballot < record.promised:",
        "    if proposal.ballot < proposal.ballot:",
    ),
    Bug(
        "promises a lower ballot after a higher one (1b)",
        "acceptor.py",
        "    if ballot < record.promised:",
        "    if ballot < ballot:",
    ),
    Bug(
        "does not say what it has accepted (1b)",
        "acceptor.py",
        "ballot, record.accepted))",
        "ballot, None))",
    ),
    Bug(
        "forgets its promise when it accepts",
        "acceptor.py",
        "AcceptorRecord(promised=proposal.ballot, accepted=proposal)",
        "AcceptorRecord(accepted=proposal)",
        None,
    ),
    Bug(
        "takes an acceptance for no promise",
        "acceptor.py",
        "AcceptorRecord(promised=proposal.ballot, accepted=proposal)",
        "AcceptorRecord(promised=record.promised, accepted=proposal)",
        None,
        5700,
    ),
    Bug(
        "says that it promised before that is on disk (D)",
        "acceptor.py",
        "(Store(record), reply)",
        "(reply, Store(record))",
    ),
    Bug(
        "says that it accepted before that is on disk (D)",
        "acceptor.py",
        "(Store(record), *told)",
        "(*told, Store(record))",
    ),
    Bug(
        "keeps its promise in memory only (D)",
        "acceptor.py",
        "(Store(record), reply)",
        "(reply,)",
    ),
    Bug(
        "proposes its own value whatever was accepted (2a)",
        "proposer.py",
        "value = proposer.wanted if best is None else best.value",
        "value = proposer.wanted",
    ),
    Bug(
        "proposes the lowest value reported, not the highest (2a)",
        "proposer.py",
        "reported.ballot > best.ballot",
        "reported.ballot < best.ballot",
        None,
    ),
    Bug(
        "proposes the last value reported (2a)",
        "proposer.py",
        "(best is None or reported.ballot > best.ballot)",
        "reported.ballot.round > 0",
        None,
    ),
    Bug(
        "takes half of the acceptors for a majority",
        "proposer.py",
        "return acceptors // 2 + 1",
        "return (acceptors + 1) // 2 if acceptors < 3 else acceptors // 2",
    ),
    Bug(
        "counts a repeated promise twice",
        "proposer.py",
        "promises = proposer.promises | {message.sender}",
        "promises = proposer.promises | {message.sender + 1000 * len(proposer.promises)}",
    ),
    Bug(
        "counts promises of any ballot",
        "proposer.py",
        "    if message.ballot != proposer.ballot or proposer.phase is Phase.IDLE:",
        "    if proposer.phase is Phase.IDLE:",
        None,
    ),
    Bug(
        "leaves its name out of the number (N)",
        "proposer.py",
        "return Ballot(self.round, self.id)",
        "return Ballot(self.round, 1)",
    ),
    Bug(
        "uses a number again after a restart (N)",
        "proposer.py",
        "(Store(ProposerRecord(proposer.round)), *asks)",
        "tuple(asks)",
        Instance(proposers=1, restarts=1),
    ),
    Bug(
        "changes its mind after it has sent Accept",
        "proposer.py",
        "    if proposer.phase is not Phase.PREPARING:\n        return proposer, ()\n    return",
        "    return",
    ),
    Bug(
        "counts acceptances of any ballot together (L)",
        "learner.py",
        "sum(1 for accepted, _ in seen if accepted == ballot)",
        "len({acceptor for _, acceptor in seen})",
        None,
    ),
    Bug(
        "takes one acceptance for a choice (L)",
        "learner.py",
        "votes >= majority(learner.acceptors)",
        "votes >= 1",
        None,
    ),
)


def enumerated(bug: Bug) -> Explored:
    """All states of the bug's instance, or as many as it takes to find it."""
    return cast("Explored", _planted(bug).explore(bug.instance))


def hunted(bug: Bug, *, seeds: int) -> Outcome | None:
    """The first of so many seeds that breaks a rule; None if none does."""
    planted = _planted(bug)
    for seed in range(bug.seed, bug.seed + seeds):
        outcome = cast("Outcome", planted.run(planted.draw(seed)))
        if outcome.complaint is not None:
            return outcome
    return None


def _planted(bug: Bug) -> Any:
    """The room, with the mistake in it."""
    return Planted(f"paxos/{bug.file}", bug.before, bug.after, room="paxos").door
