"""The paper's five safety properties, asserted after each event over all nodes at once.

Beside them stand the promises from which the paper derives them: a vote is on disk before it is
given, a leader has a majority of votes, what counts as committed is on the disks of a majority,
an acknowledged log is the leader's, a read index is no older than its read. The observer sees all
nodes and disks at one instant, so a broken promise is seen at once and not only if luck makes a
contradiction of it later. It counts majorities by itself and shares no code with the core.

Each check costs what has changed, not the size of the logs: log matching, for one, follows from
comparing every entry ever written with the first one seen at its index and term, predecessor's
term included, by the same induction as the paper's proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from month5_kvstore.raft import (
    AppendEntriesReply,
    Configuration,
    Entry,
    EntryKind,
    Message,
    Raft,
    Ready,
    RequestVoteReply,
    Role,
    Snapshot,
)
from month5_kvstore.simulation.disk import Disk


class Violation(Exception):
    """A rule is broken. rule: its name, as below; detail: both sides of the contradiction."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


ELECTION_SAFETY = "I1 election safety"
LEADER_APPEND_ONLY = "I2 leader append-only"
LOG_MATCHING = "I3 log matching"
LEADER_COMPLETENESS = "I4 leader completeness"
STATE_MACHINE_SAFETY = "I5 state machine safety"
ONE_VOTE = "one vote a term"
SNAPSHOT_TRUTH = "a snapshot is what the log makes"
ELECTED = "a leader has a majority of votes"
DURABLE = "what is committed is on the disks of a majority"
PROMISED = "a promise is on disk before it is given"
ACKNOWLEDGED = "an acknowledged log is the leader's log"
COMMITTED = "what one node takes as committed, all do"
READ_INDEX = "a read index is no older than its read"
LINEARIZABLE = "linearizable"
LIVENESS = "works again when all is calm"
LEADER = "a leader within a few time-outs"
JOINT_ENDS = "every joint change ends"
STOPPED = "a node stopped itself"


class Witness(Protocol):
    """What the observer sees of a node: the core while it runs, and the disk."""

    disk: Disk
    raft: Raft | None


class Watch:
    """Remembers what all nodes have shown, and raises Violation at the first contradiction."""

    def __init__(self, nodes: Mapping[int, Witness]) -> None:
        """nodes: by id; may still be filled afterwards."""
        self._nodes = nodes
        self._leaders: dict[int, int] = {}
        self._votes: dict[tuple[int, int], int] = {}
        self._committed: dict[int, int] = {}
        self._marks: dict[int, int] = {}
        self._reads: dict[int, int] = {}
        self._entries: dict[tuple[int, int], tuple[int | None, EntryKind, bytes]] = {}
        self._applied: dict[int, tuple[int, bytes]] = {}
        self._commits: list[tuple[int, int, int]] = [(0, 0, 0)]
        self._tails: dict[int, tuple[int, int, int]] = {}
        self._snapshots: dict[int, tuple[int, Configuration, bytes]] = {}

    def after_event(self, node: int, raft: Raft) -> None:
        """I1, I2, I4, and where the log is committed: after each event, for the node it moved."""
        if raft.committed != self._marks.get(node, 0):
            self._commits_more(node, raft)
        if raft.role is not Role.LEADER:
            self._tails.pop(node, None)
            return
        tail = self._tails.get(node)
        if tail is None or tail[0] != raft.term:
            self._begins_to_lead(node, raft)
        elif raft.last_index < tail[1] or raft.term_at(tail[1]) not in (tail[2], None):
            raise Violation(
                LEADER_APPEND_ONLY,
                f"leader {node} of term {tail[0]} had entry {tail[1]} of term {tail[2]}, "
                f"now its log ends at {raft.last_index}",
            )
        last = raft.last_index
        self._tails[node] = (raft.term, last, raft.term_at(last) or 0)

    def _commits_more(self, node: int, raft: Raft) -> None:
        committed = self._marks[node] = raft.committed
        term = raft.term_at(committed)
        if term is None:
            return
        known = self._committed.get(committed, term)
        if known != term:
            raise Violation(
                COMMITTED,
                f"{node} takes entry {committed} of term {term} as committed, where one of term "
                f"{known} is",
            )
        highest = self._commits[-1][0]
        if committed > highest:
            for index in range(highest + 1, committed + 1):
                self._committed[index] = raft.term_at(index) or 0
            self._commits.append((committed, term, raft.term))
            if raft.role is Role.LEADER:
                self._is_durable(node, raft, committed, term)

    def _is_durable(self, node: int, raft: Raft, index: int, term: int) -> None:
        holders = {
            peer for peer, witness in self._nodes.items() if _holds(witness.disk, index, term)
        }
        configuration = raft.status().configuration
        for side in (configuration.voters, configuration.outgoing):
            if not _is_majority(holders, side):
                raise Violation(
                    DURABLE,
                    f"leader {node} of term {raft.term} takes entry {index} of term {term} as "
                    f"committed, which is on the disks of {sorted(holders)} of {side}",
                )

    def _begins_to_lead(self, node: int, raft: Raft) -> None:
        known = self._leaders.setdefault(raft.term, node)
        if known != node:
            raise Violation(ELECTION_SAFETY, f"{known} and {node} both lead term {raft.term}")
        granted = {
            voter
            for (voter, term), choice in self._votes.items()
            if (term, choice) == (raft.term, node)
        }
        configuration = raft.status().configuration
        for side in (configuration.voters, configuration.outgoing):
            if not _is_majority({node, *granted}, side):
                raise Violation(
                    ELECTED,
                    f"{node} leads term {raft.term} by votes of {sorted(granted)} and its own, "
                    f"of {side}",
                )
        for index, term, seen_in in reversed(self._commits):
            if seen_in < raft.term:
                held = raft.term_at(index)
                missing = index > raft.last_index
                if missing or (held is not None and held != term):
                    raise Violation(
                        LEADER_COMPLETENESS,
                        f"leader {node} of term {raft.term} has {held} at {index}, where an "
                        f"entry of term {term} was committed in term {seen_in}",
                    )
                return

    def crashed(self, node: int) -> None:
        """A node that restarts leads nothing and may have to learn again what is committed."""
        self._tails.pop(node, None)
        self._marks.pop(node, None)

    def sent(self, message: Message) -> None:
        """A node's promise leaves it: one vote a term, and nothing that a crash would undo."""
        if isinstance(message, RequestVoteReply):
            if message.granted and not message.pre:
                self._promises_vote(message)
        elif isinstance(message, AppendEntriesReply) and message.rejected is None:
            self._acknowledges(message)

    def _promises_vote(self, message: RequestVoteReply) -> None:
        key = (message.sender, message.term)
        known = self._votes.setdefault(key, message.to)
        if known != message.to:
            raise Violation(
                ONE_VOTE,
                f"{message.sender} voted for {known} and {message.to} in term {message.term}",
            )
        hard = self._nodes[message.sender].disk.hard_state
        if (hard.term, hard.vote) != (message.term, message.to) and hard.term <= message.term:
            raise Violation(
                PROMISED,
                f"{message.sender} votes for {message.to} in term {message.term}, on its disk "
                f"stands a vote for {hard.vote} in term {hard.term}",
            )

    def _acknowledges(self, message: AppendEntriesReply) -> None:
        witness, match = self._nodes[message.sender], message.match
        disk = witness.disk
        last = disk.entries[-1].index if disk.entries else disk.snapshot.index
        if last < match or disk.hard_state.term < message.term:
            raise Violation(
                PROMISED,
                f"{message.sender} acknowledges {match} in term {message.term}, on its disk the "
                f"log ends at {last} in term {disk.hard_state.term}",
            )
        leader = self._nodes[message.to].raft
        if witness.raft is None or leader is None or leader.role is not Role.LEADER:
            return
        own, other = witness.raft.term_at(match), leader.term_at(match)
        same_term = leader.term == message.term == witness.raft.term
        if same_term and own != other and None not in (own, other):
            raise Violation(
                ACKNOWLEDGED,
                f"{message.sender} acknowledges {match}, of term {own} in its log and of "
                f"term {other} in that of leader {message.to}",
            )

    def asks(self, context: int) -> None:
        """Read `context` begins: its index must cover what anybody knows as committed now."""
        self._reads[context] = self._commits[-1][0]

    def may_read(self, node: int, context: int, index: int) -> None:
        """Read `context` was confirmed at `index`."""
        if index < (needed := self._reads.pop(context, 0)):
            raise Violation(
                READ_INDEX,
                f"{node} may read at {index}, but {needed} was committed before it asked",
            )

    def writes(self, node: int, raft: Raft, ready: Ready) -> None:
        """I3: an entry is the same wherever it is written, and so is the one before it."""
        if not ready.entries:
            return
        before = raft.term_at(ready.entries[0].index - 1)
        for entry in ready.entries:
            told = (before, entry.kind, entry.data)
            known = self._entries.setdefault((entry.index, entry.term), told)
            if known != told and (known[1:] != told[1:] or None not in (known[0], before)):
                raise Violation(
                    LOG_MATCHING,
                    f"entry {entry.index} of term {entry.term} at {node} differs from another's, "
                    f"or follows term {before} there and {known[0]} elsewhere",
                )
            before = entry.term

    def applies(self, node: int, entry: Entry) -> None:
        """I5: one entry an index, for all and for ever."""
        told = (entry.term, entry.data)
        known = self._applied.setdefault(entry.index, told)
        if known != told:
            raise Violation(
                STATE_MACHINE_SAFETY,
                f"{node} applies {entry.data!r} of term {entry.term} at {entry.index}, where "
                f"{known[1]!r} of term {known[0]} was applied",
            )

    def snapshots(self, node: int, snapshot: Snapshot) -> None:
        """Every snapshot of an index has the same term, members and content."""
        told = (snapshot.term, snapshot.configuration, snapshot.data)
        known = self._snapshots.setdefault(snapshot.index, told)
        if known != told:
            raise Violation(
                SNAPSHOT_TRUTH, f"{node} holds {told} at {snapshot.index}, others {known}"
            )


def _holds(disk: Disk, index: int, term: int) -> bool:
    """Whether entry (index, term) survives a crash now, by itself or in a snapshot."""
    if index <= disk.snapshot.index:
        return True
    if not disk.entries:
        return False
    offset = index - disk.entries[0].index
    return 0 <= offset < len(disk.entries) and disk.entries[offset].term == term


def _is_majority(some: set[int], side: tuple[int, ...]) -> bool:
    """Whether `some` are more than half of `side`; nobody is more than half of an empty one."""
    return not side or 2 * len(some & set(side)) > len(side)
