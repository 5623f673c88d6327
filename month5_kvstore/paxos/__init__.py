"""Single-decree Paxos: several proposers, one value chosen; a pure core to compare Raft with."""

from month5_kvstore.paxos.acceptor import Acceptor, answer
from month5_kvstore.paxos.enumeration import Explored, Instance, explore
from month5_kvstore.paxos.learner import Learner, learn
from month5_kvstore.paxos.messages import (
    NO_BALLOT,
    Accept,
    Accepted,
    AcceptorRecord,
    Ballot,
    Effect,
    Message,
    Prepare,
    Promise,
    Proposal,
    ProposerRecord,
    Refused,
    Send,
    Store,
)
from month5_kvstore.paxos.patience import Patience
from month5_kvstore.paxos.proposer import Phase, Proposer, begin, hear, majority
from month5_kvstore.paxos.runs import Day, Outcome, draw, run

__all__ = [
    "NO_BALLOT",
    "Accept",
    "Accepted",
    "Acceptor",
    "AcceptorRecord",
    "Ballot",
    "Day",
    "Effect",
    "Explored",
    "Instance",
    "Learner",
    "Message",
    "Outcome",
    "Patience",
    "Phase",
    "Prepare",
    "Promise",
    "Proposal",
    "Proposer",
    "ProposerRecord",
    "Refused",
    "Send",
    "Store",
    "answer",
    "begin",
    "draw",
    "explore",
    "hear",
    "learn",
    "majority",
    "run",
]
