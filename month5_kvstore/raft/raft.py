"""One node of a Raft group, without clock, randomness, network or disk of its own.

Theory of operation
    The driver calls `step(message)` for what arrives, `tick()` at regular intervals, `propose`
    and `read` for its callers, and after each of these performs the effects of `ready()`
    (see ready.py). The same inputs and random draws give the same outputs, in the simulator, in
    a test and in a server.

Invariants (the simulator asserts them after each event; figure 3 of the paper)
    I1  Election safety: a term has at most one leader.
    I2  Leader append-only: a leader never overwrites or deletes entries of its log.
    I3  Log matching: logs with an entry of the same index and term agree up to it.
    I4  Leader completeness: what is committed stands in the log of every later leader.
    I5  State machine safety: no two nodes apply different entries at one index.

Absent on purpose: forwarding of proposals (the caller is told who leads), chunked snapshots (a
transport's business), sessions that make retries exact (the state machine's).

Source: Ongaro and Ousterhout 2014, "In search of an understandable consensus algorithm (extended
version)", sections as cited; Ongaro 2014, the thesis, for what goes beyond it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from month5_kvstore.raft import election, membership, reads, replication
from month5_kvstore.raft.dispatch import step as dispatch
from month5_kvstore.raft.errors import ContractBroken, NotLeader
from month5_kvstore.raft.log import RaftLog
from month5_kvstore.raft.messages import (
    AppendEntries,
    Heartbeat,
    InstallSnapshot,
    Message,
    ReadIndex,
    TimeoutNow,
)
from month5_kvstore.raft.progress import Phase
from month5_kvstore.raft.ready import Ready
from month5_kvstore.raft.records import Configuration, Entry, EntryKind, HardState, Snapshot
from month5_kvstore.raft.settings import Settings
from month5_kvstore.raft.state import Core, Read, Role, become_follower
from scalelab.errors import InvalidInput, Overloaded, Unavailable


@dataclass(frozen=True, slots=True)
class Follower:
    """What a leader knows of a member."""

    match: int
    next: int
    phase: Phase


@dataclass(frozen=True, slots=True)
class Status:
    """A node's view of its group. leader: 0 if unknown. followers: empty unless it leads."""

    id: int
    role: Role
    term: int
    vote: int
    leader: int
    committed: int
    applied: int
    last_index: int
    configuration: Configuration
    followers: dict[int, Follower]


class Raft:
    """A node. Not thread-safe; every method returns at once and does no I/O."""

    def __init__(
        self,
        node_id: int,
        settings: Settings,
        *,
        random: Random,
        snapshot: Snapshot,
        entries: Iterable[Entry] = (),
        hard_state: HardState | None = None,
    ) -> None:
        """Start from what is on disk. A new group starts on every node from the same
        `Snapshot(0, 0, configuration, data)`; one that joins, from an empty configuration.

        random: draws election time-outs, so it must differ between the nodes of a group.
        """
        if node_id < 1:
            raise InvalidInput("node ids are integers from 1 on", field="node_id")
        hard = hard_state or HardState()
        log = RaftLog(snapshot, tuple(entries), hard.commit)
        core = Core(node_id, settings, random, log, term=hard.term, vote=hard.vote)
        core.draw_timeout()
        self._core = core
        self._written = hard
        self._out: Ready | None = None

    def step(self, message: Message) -> None:
        """Take a message that arrived. One for another node is InvalidInput."""
        if message.to != self._core.id:
            raise InvalidInput(f"node {self._core.id} got a message for {message.to}", field="to")
        dispatch(self._core, message)
        membership.settle(self._core)

    def tick(self) -> None:
        """Time has passed: one tick."""
        core = self._core
        core.ticks += 1
        core.election_elapsed += 1
        if core.role is not Role.LEADER:
            if core.election_elapsed >= core.timeout_ticks:
                core.election_elapsed = 0
                election.campaign(core)
            return
        core.heartbeat_elapsed += 1
        if core.election_elapsed >= core.settings.election_ticks:
            core.election_elapsed = 0
            core.transferee = 0
            if core.settings.check_quorum and not election.has_quorum(core):
                become_follower(core, core.term, 0)
                return
        if core.heartbeat_elapsed >= core.settings.heartbeat_ticks:
            core.heartbeat_elapsed = 0
            replication.send_heartbeats(core)

    def propose(self, data: bytes) -> int:
        """Append a command; returns its index. Committed only if an entry with this index and
        this term is handed out later; another leader may have put something else there.

        Raises NotLeader, Unavailable while leadership is handed over, Overloaded when too much
        is waiting to be committed. Nothing was appended then.
        """
        core = self._leading()
        if core.uncommitted_bytes + len(data) > core.settings.uncommitted_bytes_max:
            raise Overloaded("too much is waiting to be committed", retry_after_s=0.1)
        return replication.append(core, EntryKind.COMMAND, data)

    def change_members(self, voters: Iterable[int], learners: Iterable[int] = ()) -> int:
        """Begin to make these the members; by one entry, or jointly if several voters differ.

        Returns the first entry's index. Raises NotLeader, InvalidInput or ChangeRefused.
        """
        return membership.begin(self._leading(), voters, learners)

    def read(self, context: int) -> None:
        """Ask for a read index; `Ready.reads` brings it under `context`, which the caller chose
        and has never used before. Answers may get lost: set a deadline. Raises NotLeader.
        """
        core = self._core
        if core.role is Role.LEADER:
            reads.ask(core, Read(core.id, context))
        elif core.leader:
            core.outbox.append(ReadIndex(core.id, core.leader, core.term, context))
        else:
            raise NotLeader("no leader is known to confirm a read", leader_id=0)

    def transfer_leadership(self, to: int) -> None:
        """Bring `to` up to date and let it stand at once (thesis 3.10). Proposals are refused
        meanwhile; given up after an election time-out. Raises NotLeader or InvalidInput.
        """
        core = self._leading()
        if to == core.id or to not in core.configuration.voters:
            raise InvalidInput(f"{to} is not another voter", field="to")
        core.transferee, core.election_elapsed = to, 0
        core.has_asked_successor = True
        if core.progress[to].match == core.log.last_index:
            core.outbox.append(TimeoutNow(core.id, to, core.term))
        else:
            replication.probe(core, to)

    def campaign(self) -> None:
        """Stand for election now, as if the time-out had passed. For tests and operators."""
        if self._core.role is not Role.LEADER:
            election.campaign(self._core)

    def ready(self) -> Ready | None:
        """What is to be done now, or None. Raises ContractBroken while another Ready is out."""
        if self._out is not None:
            raise ContractBroken("advance must be called before the next ready")
        core, log = self._core, self._core.log
        if core.role is Role.LEADER:
            reads.flush(core)
            replication.flush(core)
        if self._is_idle():
            return None
        hard = HardState(core.term, core.vote, log.committed)
        written = self._written
        entries = log.slice(log.persisted + 1, 1 << 62) if log.persisted < log.last_index else ()
        promised = hard.term != written.term or hard.vote != written.vote
        first, then = _split(core.outbox, promised=promised)
        self._out = Ready(
            sends_first=first,
            snapshot=log.incoming,
            entries=entries,
            hard_state=hard if hard != written else None,
            must_sync=promised or bool(entries) or log.incoming is not None,
            sends=then,
            committed=self._to_apply(),
            reads=tuple(core.read_states),
        )
        self._written = hard
        core.outbox.clear()
        core.read_states.clear()
        return self._out

    def advance(self, ready: Ready) -> None:
        """Everything in `ready` is done. Raises ContractBroken for any other Ready."""
        if ready is not self._out:
            raise ContractBroken("this is not the Ready that is out")
        self._out = None
        core, log = self._core, self._core.log
        if ready.snapshot is not None:
            log.applied = max(log.applied, ready.snapshot.index)
            if log.incoming is ready.snapshot:
                log.incoming = None
        if ready.entries:
            log.persisted_to(ready.entries[-1].index, ready.entries[-1].term)
        if ready.committed:
            log.applied = max(log.applied, ready.committed[-1].index)
        if core.role is not Role.LEADER:
            return
        core.uncommitted_bytes = max(
            0, core.uncommitted_bytes - sum(len(entry.data) for entry in ready.committed)
        )
        core.progress[core.id].match = log.persisted
        replication.advance_commit(core)
        membership.settle(core)

    def snapshot_at(self, index: int, data: bytes) -> Snapshot:
        """A snapshot of the state machine as of `index`, which must be applied and not compacted.

        Make it durable, then call `compact`.
        """
        log = self._core.log
        term = log.term_at(index)
        if index > log.applied or term is None:
            raise InvalidInput(f"{index} is not applied here or compacted away", field="index")
        return Snapshot(index, term, log.configuration_at(index), data)

    def compact(self, snapshot: Snapshot, *, keep: int = 0) -> None:
        """Forget entries that a durable snapshot covers, but for the last `keep` of them, which
        spare a follower that is a little behind the whole snapshot (section 7)."""
        log = self._core.log
        if snapshot.index > log.applied:
            raise InvalidInput(f"{snapshot.index} is not applied here", field="snapshot")
        if snapshot.index > log.snapshot.index:
            log.compact(snapshot, keep)

    def status(self) -> Status:
        """How this node sees its group."""
        core, log = self._core, self._core.log
        return Status(
            id=core.id,
            role=core.role,
            term=core.term,
            vote=core.vote,
            leader=core.leader,
            committed=log.committed,
            applied=log.applied,
            last_index=log.last_index,
            configuration=log.configuration,
            followers={
                peer: Follower(progress.match, progress.next, progress.phase)
                for peer, progress in sorted(core.progress.items())
            },
        )

    @property
    def role(self) -> Role:
        """This node's part in its term."""
        return self._core.role

    @property
    def term(self) -> int:
        """The latest term this node has heard of."""
        return self._core.term

    @property
    def leader(self) -> int:
        """Who leads this term, 0 if that is not known here."""
        return self._core.leader

    @property
    def committed(self) -> int:
        """How far this node knows the log committed."""
        return self._core.log.committed

    @property
    def last_index(self) -> int:
        """Index of the last entry here."""
        return self._core.log.last_index

    def term_at(self, index: int) -> int | None:
        """Term of the entry at `index`; None if compacted away or not there."""
        return self._core.log.term_at(index)

    def _is_idle(self) -> bool:
        core, log, written = self._core, self._core.log, self._written
        return not (
            core.outbox
            or core.read_states
            or log.persisted < log.last_index
            or log.applied < log.committed
            or log.incoming is not None
            or written.commit != log.committed
            or written.term != core.term
            or written.vote != core.vote
        )

    def _leading(self) -> Core:
        core = self._core
        if core.role is not Role.LEADER:
            raise NotLeader(f"node {core.id} does not lead", leader_id=core.leader)
        if core.transferee:
            raise Unavailable("leadership is being handed over", retry_after_s=0.1)
        return core

    def _to_apply(self) -> tuple[Entry, ...]:
        log = self._core.log
        if log.incoming is not None or log.applied >= log.committed:
            return ()
        return log.slice(log.applied + 1, self._core.settings.apply_bytes_max, log.committed)


def _split(
    outbox: list[Message], *, promised: bool
) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """(may go out beside the write, must wait for it). A request of a leader promises nothing
    about its own disk, unless its very term is still to be written (thesis 10.2.1)."""
    if promised:
        return (), tuple(outbox)
    requests = (AppendEntries, Heartbeat, InstallSnapshot)
    first = tuple(message for message in outbox if isinstance(message, requests))
    return first, tuple(message for message in outbox if not isinstance(message, requests))
