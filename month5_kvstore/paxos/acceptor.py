"""An acceptor: it promises, it accepts, and it forgets neither. Pure.

Rules (tests cite them; section 2.2 of the paper)
    P1   An acceptor accepts the first proposal that it receives.
    P1a  It accepts a proposal exactly if it has not promised a higher ballot.
    1b   It answers Prepare for a ballot above every promised one, with the highest-numbered
         proposal that it has accepted; from then on it accepts nothing below.
    D    A promise or an acceptance is on disk before anybody hears of it (section 2.5).

Differs from the paper: to accept a ballot is also to promise it. Read by the letter, P1a lets an
acceptor that accepted ballot 5 unprepared accept ballot 3 after it; if it then remembers 3, a
chosen value can change. A Prepare for the very ballot that is promised is answered again.

Source: Lamport 2001, "Paxos made simple".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from month5_kvstore.paxos.messages import (
    NOTHING,
    Accept,
    Accepted,
    AcceptorRecord,
    Effect,
    Prepare,
    Promise,
    Refused,
    Send,
    Store,
)


@dataclass(frozen=True, slots=True)
class Acceptor:
    """One acceptor. learners: who hears of each acceptance. record: all it must remember, so a
    restart is `Acceptor(id, learners, record)` with the record last stored."""

    id: int
    learners: tuple[int, ...]
    record: AcceptorRecord = NOTHING


AcceptorStep = tuple[Acceptor, tuple[Effect, ...]]


def answer(acceptor: Acceptor, message: Prepare | Accept) -> AcceptorStep:
    """Take a request; returns where the acceptor stands and what to carry out, in order."""
    if isinstance(message, Prepare):
        return _promise(acceptor, message)
    return _accept(acceptor, message)


def _promise(acceptor: Acceptor, message: Prepare) -> AcceptorStep:
    record, ballot = acceptor.record, message.ballot
    if ballot < record.promised:
        return acceptor, (Send(Refused(acceptor.id, message.sender, ballot, record.promised)),)
    record = replace(record, promised=ballot)
    reply = Send(Promise(acceptor.id, message.sender, ballot, record.accepted))
    return replace(acceptor, record=record), (Store(record), reply)


def _accept(acceptor: Acceptor, message: Accept) -> AcceptorStep:
    record, proposal = acceptor.record, message.proposal
    if proposal.ballot < record.promised:
        refusal = Refused(acceptor.id, message.sender, proposal.ballot, record.promised)
        return acceptor, (Send(refusal),)
    record = AcceptorRecord(promised=proposal.ballot, accepted=proposal)
    told = (Send(Accepted(acceptor.id, learner, proposal)) for learner in acceptor.learners)
    return replace(acceptor, record=record), (Store(record), *told)
