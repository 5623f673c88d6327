"""One Raft group on one node: keeps the core's contract over the real log, and applies.

    wake → ready → send requests → write, wait for the sync → send promises → apply → answer

One task a group does this; callers put in proposals, reads, messages and ticks meanwhile, and what
follows from them shares the next write. Nothing here retries what may have been carried out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from month5_kvstore.log import DiskFull, GroupLog, LogQueueFull, LogWriter
from month5_kvstore.raft import (
    AppendEntries,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Heartbeat,
    Message,
    NotLeader,
    Raft,
    ReadState,
    Ready,
    Role,
    Settings,
    Snapshot,
)
from month5_kvstore.store import (
    Answer,
    Command,
    Compact,
    Envelope,
    PassTime,
    encode_envelope,
    freeze,
    restore,
)
from scalelab.clock import Clock
from scalelab.errors import OutcomeUnknown, Retryable, Unavailable

_DISK_AGAIN_S = 0.2
KEEP_ENTRIES = 1000
"""Entries kept in memory behind a snapshot, so that a follower a little behind needs none."""


class GroupDriver:
    """Raft, store and log of one group. `run` is its task; everything else returns at once.

    snapshot_entries: applied entries between two snapshots. history: revisions kept behind the
    newest; the leader compacts when twice as many are there. send: to another node, may drop.
    """

    def __init__(
        self,
        group: int,
        node_id: int,
        settings: Settings,
        found: GroupLog | None,
        voters: tuple[int, ...],
        *,
        writer: LogWriter,
        send: Callable[[int, Message], None],
        random: Random,
        clock: Clock,
        snapshot_entries: int,
        history: int,
    ) -> None:
        snapshot = found.snapshot if found else None
        start = snapshot or Snapshot(0, 0, Configuration(voters), b"")
        self.group = group
        self.store = restore(start.data)
        self.applied = start.index
        self.raft = Raft(
            node_id,
            settings,
            random=random,
            snapshot=start,
            entries=found.entries if found else (),
            hard_state=found.hard_state if found else None,
        )
        self.disk_full = False
        self.changed = asyncio.Event()
        """Set, and replaced by a new one, when the store has a new revision."""
        self._writer = writer
        self._send = send
        self._clock = clock
        self._snapshot_entries = snapshot_entries
        self._history = history
        self._snapshot_index = start.index
        self._unwritten: HardState | None = None
        self._wake = asyncio.Event()
        self._proposals: dict[int, tuple[int, asyncio.Future[Answer]]] = {}
        self._new_reads: list[asyncio.Future[None]] = []
        self._reads: dict[int, list[asyncio.Future[None]]] = {}
        self._ripe: list[tuple[int, list[asyncio.Future[None]]]] = []
        self._context = random.getrandbits(40) << 20
        self._led_term = 0
        self._base_ms = 0
        self._since_s = 0.0
        self._heard_s = clock.monotonic_s()
        self._upkeep_index = 0
        self._snapshotting: asyncio.Task[None] | None = None
        self._disk_turn = asyncio.Lock()

    @property
    def leads(self) -> bool:
        """Whether this node believes that it leads."""
        return self.raft.role is Role.LEADER

    @property
    def silence_s(self) -> float:
        """Since a leader was last heard here; 0 on who believes it leads."""
        return 0.0 if self.leads else self._clock.monotonic_s() - self._heard_s

    def receive(self, message: Message) -> None:
        """A message of another member."""
        if isinstance(message, Heartbeat | AppendEntries) and message.term >= self.raft.term:
            self._heard_s = self._clock.monotonic_s()
        self.raft.step(message)
        self._wake.set()

    def tick(self) -> None:
        """A tick has passed: elections, heartbeats, and what the leader does for the store."""
        self.raft.tick()
        if self._led_term == self.raft.term and self.leads and not self.disk_full:
            self._look_after()
        self._wake.set()

    def submit(
        self, command: Command, session: int = 0, sequence: int = 0, acknowledged_below: int = 0
    ) -> asyncio.Future[Answer]:
        """Put a command into the log; the future has its answer once it is applied here.

        Raises NotLeader, DiskFull, Overloaded: it was not taken. The future raises Unavailable if
        it was certainly not carried out, OutcomeUnknown if nobody can tell.
        """
        if self.disk_full:
            raise DiskFull("this node's disk is full; it takes no commands")
        envelope = Envelope(self._now_ms(), command, session, sequence, acknowledged_below)
        index = self.raft.propose(encode_envelope(envelope))
        done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._abandon(index)
        self._proposals[index] = (self.raft.term, done)
        self._wake.set()
        return done

    def read_barrier(self) -> asyncio.Future[None]:
        """Done when what is applied here is at least what was committed when this was called.

        The future raises Unavailable if it must be asked again; it may never be done, so set a
        deadline. Reads of one turn of the loop share one question.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._new_reads:
            asyncio.get_running_loop().call_soon(self._ask_to_read)
        self._new_reads.append(done)
        return done

    async def run(self) -> None:
        """Until cancelled. Raises LogStopped, CorruptData, InvariantBroken: the node must end."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while (ready := self.raft.ready()) is not None:
                    await self._perform(ready)
                if self._snapshotting is not None and self._snapshotting.done():
                    self._snapshotting.result()
                    self._snapshotting = None
        finally:
            if self._snapshotting is not None:
                self._snapshotting.cancel()

    def snapshot_now(self) -> None:
        """Begin a snapshot of what is applied, unless one is under way or would be no newer."""
        if self._snapshotting is None and self.applied > self._snapshot_index:
            self._snapshotting = asyncio.create_task(
                self._take_snapshot(), name=f"snapshot-{self.group}"
            )

    async def _perform(self, ready: Ready) -> None:
        for message in ready.sends_first:
            self._send(message.to, message)
        if ready.hard_state is not None:
            self._unwritten = ready.hard_state
        if ready.snapshot is not None:
            await self._install(ready.snapshot)
        if ready.must_sync:
            # A commit index alone is worth no write: it goes along with the next one.
            await self._persist(ready.entries, self._unwritten)
            self._unwritten = None
        for message in ready.sends:
            self._send(message.to, message)
        before = self.store.revision
        for entry in ready.committed:
            self._apply(entry)
        for state in ready.reads:
            self._confirm(state)
        self._answer_reads()
        self.raft.advance(ready)
        if self.store.revision != before:
            self._tell_watchers()
        if self.applied - self._snapshot_index >= self._snapshot_entries:
            self.snapshot_now()

    async def _persist(self, entries: tuple[Entry, ...], state: HardState | None) -> None:
        """On the disk, however long it is full; nothing that depends on it goes out before."""
        while True:
            try:
                await self._writer.append(self.group, entries, state)
            except (DiskFull, LogQueueFull) as error:
                self.disk_full = isinstance(error, DiskFull)
                await asyncio.sleep(_DISK_AGAIN_S)
            else:
                self.disk_full = False
                return

    async def _install(self, snapshot: Snapshot) -> None:
        """A leader's snapshot in place of everything here."""
        while True:
            try:
                async with self._disk_turn:
                    await self._writer.save_snapshot(self.group, snapshot, resets=True)
                    self._snapshot_index = snapshot.index
            except (DiskFull, LogQueueFull):
                await asyncio.sleep(_DISK_AGAIN_S)
            else:
                break
        self.store = await asyncio.to_thread(restore, snapshot.data)
        self.applied = snapshot.index
        for index in [one for one in self._proposals if one <= snapshot.index]:
            self._abandon(index)
        self._tell_watchers()

    async def _take_snapshot(self) -> None:
        """Frozen at once, encoded and written beside everything else."""
        index, frozen = self.applied, freeze(self.store)
        data = await asyncio.to_thread(frozen.encode)
        async with self._disk_turn:
            if index <= self._snapshot_index or self.raft.term_at(index) is None:
                return  # a leader's snapshot came meanwhile
            snapshot = self.raft.snapshot_at(index, data)
            try:
                await self._writer.save_snapshot(self.group, snapshot)
            except (DiskFull, LogQueueFull):
                return  # the log stays as long as it is; the next one may fit
            self._snapshot_index = index
            self.raft.compact(snapshot, keep=KEEP_ENTRIES)

    def _apply(self, entry: Entry) -> None:
        answer: Answer | None = None
        if entry.kind is EntryKind.COMMAND:
            answer = self.store.apply(entry.data)
        elif self.leads and entry.term == self.raft.term and self._led_term != entry.term:
            # From here on this leader knows all log time of before: its clock begins there.
            self._led_term, self._upkeep_index = entry.term, 0
            self._base_ms, self._since_s = self.store.time_ms, self._clock.monotonic_s()
        self.applied = entry.index
        waiting = self._proposals.pop(entry.index, None)
        if waiting is None or waiting[1].done():
            return
        term, done = waiting
        if term == entry.term and answer is not None:
            done.set_result(answer)
        else:
            done.set_exception(NotLeader("another leader's entry took its place", leader_id=0))

    def _abandon(self, index: int) -> None:
        """Nobody here will hear of this proposal: it may still win in another log."""
        waiting = self._proposals.pop(index, None)
        if waiting is not None and not waiting[1].done():
            waiting[1].set_exception(OutcomeUnknown("the leader changed before the answer"))

    def _ask_to_read(self) -> None:
        futures, self._new_reads = self._new_reads, []
        self._context += 1
        try:
            self.raft.read(self._context)
        except Retryable as error:
            _fail(futures, error)
            return
        self._reads[self._context] = futures
        for context in [one for one in self._reads if all(f.done() for f in self._reads[one])]:
            del self._reads[context]  # given up by all who asked
        self._wake.set()

    def _confirm(self, state: ReadState) -> None:
        futures = self._reads.pop(state.context, None)
        if futures is None:
            return
        if state.index is None:
            _fail(futures, Unavailable("leadership moved during the read", retry_after_s=0.05))
        else:
            self._ripe.append((state.index, futures))

    def _answer_reads(self) -> None:
        if not self._ripe:
            return
        for index, futures in self._ripe:
            if index <= self.applied:
                for done in futures:
                    if not done.done():
                        done.set_result(None)
        self._ripe = [waiting for waiting in self._ripe if waiting[0] > self.applied]

    def _tell_watchers(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def _now_ms(self) -> int:
        """The log's time as this leader counts it; 0 while it does not know it."""
        if self._led_term != self.raft.term or not self.leads:
            return 0
        return self._base_ms + int((self._clock.monotonic_s() - self._since_s) * 1000)

    def _look_after(self) -> None:
        """Let time pass where something is due, and compact; one such command at a time."""
        if self._upkeep_index > self.applied:
            return
        store, now_ms = self.store, self._now_ms()
        due = [store.leases.next_deadline_ms, store.sessions.next_deadline_ms]
        command: Command
        if any(deadline is not None and deadline <= now_ms for deadline in due):
            command = PassTime()
        elif store.revision - store.compacted > 2 * self._history:
            command = Compact(store.revision - self._history)
        else:
            return
        try:
            self._upkeep_index = self.raft.propose(encode_envelope(Envelope(now_ms, command)))
        except Retryable:
            return  # the next tick tries again


def _fail(futures: list[asyncio.Future[None]], error: Exception) -> None:
    for done in futures:
        if not done.done():
            done.set_exception(error)
