"""One simulated node: the driver that keeps the core's contract, with a disk that takes time.

This is the shape of every driver: feed the core, perform `Ready` in order, answer callers. It is
short because it has nothing else to do; the server's driver does the same with real files and
sockets.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Protocol

from month5_kvstore.raft import (
    Configuration,
    Entry,
    EntryKind,
    Message,
    NotLeader,
    Raft,
    ReadState,
    Ready,
    Settings,
    Snapshot,
)
from month5_kvstore.simulation.disk import Disk, Installed
from month5_kvstore.simulation.history import Answer, Registers, encode_command
from month5_kvstore.simulation.invariants import Watch
from month5_kvstore.simulation.plan import PlannedCall
from scalelab.errors import Retryable

KEEP_ENTRIES = 3
"""Entries kept behind a snapshot, so that small gaps need no snapshot."""


class Surroundings(Protocol):
    """What a node's driver needs of the world around it."""

    def send(self, message: Message) -> None:
        """Hand a message to the network."""
        ...

    def sync(self, machine: Machine, ready: Ready | None) -> None:
        """Begin a sync of the machine's disk; `machine.synced` is called when it is done."""
        ...

    def answered(self, call: PlannedCall, answer: Answer) -> None:
        """A call has its answer."""
        ...

    def turned_away(self, call: PlannedCall, leader: int) -> None:
        """A call was certainly not carried out; ask `leader` (0: anybody) again."""
        ...

    def abandoned(self, call: PlannedCall) -> None:
        """Nobody will answer this call; it may have been carried out, or still be."""
        ...


@dataclass(slots=True)
class Waiting:
    """A write on its way through the log."""

    term: int
    call: PlannedCall


class Machine:
    """A node that can be started, crashed and started again on the same disk."""

    def __init__(
        self,
        node: int,
        configuration: Configuration,
        settings: Settings,
        compact_entries: int,
        world: Surroundings,
        watch: Watch,
    ) -> None:
        self.id = node
        self.disk = Disk(configuration)
        self.raft: Raft | None = None
        self.life = 0
        self._settings = settings
        self._compact_entries = compact_entries
        self._world = world
        self._watch = watch
        self._reset()

    def _reset(self) -> None:
        self.busy = False
        self.applied = 0
        self._store = Registers()
        self._writes: dict[int, Waiting] = {}
        self._reads: dict[int, PlannedCall] = {}
        self._ripe: list[tuple[int, PlannedCall]] = []
        self._snapshotting: Snapshot | None = None

    def start(self, random: Random) -> None:
        """Begin from what the disk holds."""
        disk = self.disk
        self._reset()
        self.life += 1
        self._store.load(disk.snapshot.data)
        self.applied = disk.snapshot.index
        self.raft = Raft(
            self.id,
            self._settings,
            random=random,
            snapshot=disk.snapshot,
            entries=disk.entries,
            hard_state=disk.hard_state,
        )

    def crash(self, random: Random) -> tuple[int, int]:
        """End at once; returns how many unsynced writes survived, and how many did not."""
        for waiting in self._writes.values():
            self._world.abandoned(waiting.call)
        for call in [*self._reads.values(), *(call for _, call in self._ripe)]:
            self._world.turned_away(call, 0)
        self.raft = None
        self._reset()
        self._watch.crashed(self.id)
        return self.disk.crash(random)

    def receive(self, message: Message) -> None:
        """A message has arrived."""
        if self.raft is not None:
            self.raft.step(message)
            self.pump()

    def tick(self) -> None:
        """The clock has moved on by one."""
        if self.raft is not None:
            self.raft.tick()
            self.pump()

    def take(self, call: PlannedCall, context: int) -> None:
        """A client asks. context: a number for this attempt, used once."""
        raft = self.raft
        if raft is None:
            self._world.turned_away(call, 0)
            return
        try:
            if call.verb == "get":
                self._watch.asks(context)
                raft.read(context)
                self._reads[context] = call
            else:
                index = raft.propose(encode_command(call.key, call.verb, call.arguments))
                if index in self._writes:
                    # Cut off here, but it may stand in another log, and win there.
                    self._world.abandoned(self._writes[index].call)
                self._writes[index] = Waiting(raft.term, call)
        except NotLeader as error:
            self._world.turned_away(call, error.leader_id)
        except Retryable:
            self._world.turned_away(call, self.id)
        self.pump()

    def pump(self) -> None:
        """Perform what the core wants done, until it wants nothing or the disk is at work."""
        raft = self.raft
        if raft is None:
            return
        self._watch.after_event(self.id, raft)
        while not self.busy and (ready := raft.ready()) is not None:
            self._watch.writes(self.id, raft, ready)
            self._send(ready.sends_first)
            self._write(ready)
            if ready.must_sync:
                self.busy = True
                self._world.sync(self, ready)
            else:
                self._finish(raft, ready)

    def synced(self, count: int, ready: Ready | None) -> None:
        """A sync is done: the first `count` writes that waited for it are durable."""
        self.disk.sync(count)
        raft = self.raft
        if raft is None:
            return
        if ready is None:
            if self._snapshotting is not None:
                raft.compact(self._snapshotting, keep=KEEP_ENTRIES)
                self._snapshotting = None
            return
        self.busy = False
        self._finish(raft, ready)
        self.pump()

    def _write(self, ready: Ready) -> None:
        if ready.snapshot is not None:
            self.disk.write(Installed(ready.snapshot))
        for entry in ready.entries:
            self.disk.write(entry)
        if ready.hard_state is not None:
            self.disk.write(ready.hard_state)

    def _send(self, messages: tuple[Message, ...]) -> None:
        for message in messages:
            self._watch.sent(message)
            self._world.send(message)

    def _finish(self, raft: Raft, ready: Ready) -> None:
        self._send(ready.sends)
        if ready.snapshot is not None:
            self._install(ready.snapshot)
        for entry in ready.committed:
            self._apply(entry)
        for state in ready.reads:
            self._confirm(state)
        self._answer_reads()
        raft.advance(ready)
        self._watch.after_event(self.id, raft)
        if self.applied - self.disk.snapshot.index >= self._compact_entries:
            self._take_snapshot(raft)

    def _install(self, snapshot: Snapshot) -> None:
        self._watch.snapshots(self.id, snapshot)
        self._store.load(snapshot.data)
        self.applied = snapshot.index
        for index in [index for index in self._writes if index <= snapshot.index]:
            self._world.abandoned(self._writes.pop(index).call)

    def _apply(self, entry: Entry) -> None:
        self._watch.applies(self.id, entry)
        answer: Answer = None
        if entry.kind is EntryKind.COMMAND:
            answer = self._store.apply(entry.data)
        self.applied = entry.index
        waiting = self._writes.pop(entry.index, None)
        if waiting is None:
            return
        if waiting.term == entry.term:
            self._world.answered(waiting.call, answer)
        else:
            self._world.turned_away(waiting.call, 0)

    def _confirm(self, state: ReadState) -> None:
        call = self._reads.pop(state.context, None)
        if call is None:
            return
        if state.index is None:
            self._world.turned_away(call, 0)
        else:
            self._watch.may_read(self.id, state.context, state.index)
            self._ripe.append((state.index, call))

    def _answer_reads(self) -> None:
        if not self._ripe:
            return
        for index, call in self._ripe:
            if index <= self.applied:
                self._world.answered(call, self._store.read(call.key))
        self._ripe = [waiting for waiting in self._ripe if waiting[0] > self.applied]

    def _take_snapshot(self, raft: Raft) -> None:
        if self._snapshotting is not None or raft.term_at(self.applied) is None:
            # Without the term: a leader's snapshot has come meanwhile and is ahead of us.
            return
        snapshot = raft.snapshot_at(self.applied, self._store.save())
        self._watch.snapshots(self.id, snapshot)
        self._snapshotting = snapshot
        self.disk.write(snapshot)
        self._world.sync(self, None)
