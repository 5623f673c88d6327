"""What nodes say to each other. Every message carries its sender, its receiver and a term.

Requests of a leader: AppendEntries, Heartbeat, InstallSnapshot, TimeoutNow. Requests of a
candidate: RequestVote. A follower may ask its leader for a read index. Replies may be lost,
repeated, late or out of order; every rule that reads one is written for that.

Departures from the paper: a heartbeat is a message of its own, since it must be cheap and carries
the number of a round, which is what reads and the lease wait for.
"""

from __future__ import annotations

from dataclasses import dataclass

from month5_kvstore.raft.records import Entry, Snapshot


@dataclass(frozen=True, slots=True)
class RequestVote:
    """Section 5.2. pre: a question only, for the term after the asker's (thesis 9.6). transfer:
    the leader itself has asked for this election (thesis 3.10), so its voters need not wait."""

    sender: int
    to: int
    term: int
    last_index: int
    last_term: int
    pre: bool = False
    transfer: bool = False


@dataclass(frozen=True, slots=True)
class RequestVoteReply:
    """term: the asked one if a pre-vote is granted, else the sender's own."""

    sender: int
    to: int
    term: int
    granted: bool
    pre: bool = False


@dataclass(frozen=True, slots=True)
class AppendEntries:
    """Section 5.3. entries follow (prev_index, prev_term); none at all is a probe."""

    sender: int
    to: int
    term: int
    prev_index: int
    prev_term: int
    entries: tuple[Entry, ...]
    commit: int


@dataclass(frozen=True, slots=True)
class AppendEntriesReply:
    """match: the sender's log equals the leader's up to here, on disk. Or rejected: the
    prev_index that did not fit, with a hint where the logs may still agree."""

    sender: int
    to: int
    term: int
    match: int
    rejected: int | None = None
    hint_index: int = 0
    hint_term: int = 0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """I lead. commit: never more than the receiver is known to hold. round: counts up per term."""

    sender: int
    to: int
    term: int
    commit: int
    round: int


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    """The sender still follows in this term; with a higher term: it does not."""

    sender: int
    to: int
    term: int
    round: int


@dataclass(frozen=True, slots=True)
class InstallSnapshot:
    """Section 7, in one piece: chunking is the transport's business."""

    sender: int
    to: int
    term: int
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """Thesis 3.10: start an election at once; the leader wants you to follow it."""

    sender: int
    to: int
    term: int


@dataclass(frozen=True, slots=True)
class ReadIndex:
    """A follower asks how far it must have applied before it may answer read `context`."""

    sender: int
    to: int
    term: int
    context: int


@dataclass(frozen=True, slots=True)
class ReadIndexReply:
    """Read `context` may be answered by whoever has applied `index`."""

    sender: int
    to: int
    term: int
    context: int
    index: int


Message = (
    RequestVote
    | RequestVoteReply
    | AppendEntries
    | AppendEntriesReply
    | Heartbeat
    | HeartbeatReply
    | InstallSnapshot
    | TimeoutNow
    | ReadIndex
    | ReadIndexReply
)
