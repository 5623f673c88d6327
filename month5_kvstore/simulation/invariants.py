"""The paper's five safety properties, asserted after each event over all nodes at once.

Each check costs what has changed, not the size of the logs: log matching, for one, follows from
comparing every entry ever written with the first one seen at its index and term, predecessor's
term included, by the same induction as the paper's proof.
"""

from __future__ import annotations

from month5_kvstore.raft import (
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
LINEARIZABLE = "linearizable"
LIVENESS = "works again when all is calm"
STOPPED = "a node stopped itself"


class Watch:
    """Remembers what all nodes have shown, and raises Violation at the first contradiction."""

    def __init__(self) -> None:
        self._leaders: dict[int, int] = {}
        self._votes: dict[tuple[int, int], int] = {}
        self._entries: dict[tuple[int, int], tuple[int | None, EntryKind, bytes]] = {}
        self._applied: dict[int, tuple[int, bytes]] = {}
        self._commits: list[tuple[int, int, int]] = [(0, 0, 0)]
        self._tails: dict[int, tuple[int, int, int]] = {}
        self._snapshots: dict[int, tuple[int, Configuration, bytes]] = {}

    def after_event(self, node: int, raft: Raft) -> None:
        """I1, I2, I4, and where the log is committed: after each event, for the node it moved."""
        committed = raft.committed
        if committed > self._commits[-1][0]:
            term = raft.term_at(committed)
            if term is not None:
                self._commits.append((committed, term, raft.term))
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

    def _begins_to_lead(self, node: int, raft: Raft) -> None:
        known = self._leaders.setdefault(raft.term, node)
        if known != node:
            raise Violation(ELECTION_SAFETY, f"{known} and {node} both lead term {raft.term}")
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
        """A node that restarts leads nothing."""
        self._tails.pop(node, None)

    def sent(self, message: Message) -> None:
        """A node's promise leaves it: one vote a term."""
        if isinstance(message, RequestVoteReply) and message.granted and not message.pre:
            key = (message.sender, message.term)
            known = self._votes.setdefault(key, message.to)
            if known != message.to:
                raise Violation(
                    ONE_VOTE,
                    f"{message.sender} voted for {known} and {message.to} in term {message.term}",
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
