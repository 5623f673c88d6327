"""A multi-version key-value store as a state machine: commands in, answers and events out.

Theory of operation
    Raft hands every node the same entries in the same order; `apply` carries each out at once,
    without clock, randomness or I/O, so that all nodes hold the same. Each key leads to its newest
    version, and that to the one before: reading the past is walking back. What changed at which
    revision stands in a journal, which watchers read at their own pace.

    Time comes with the entries: the leader stamps each with its log time, and the store's time is
    the largest stamp so far. It stands still while nobody leads, so a lease never ends early.

Invariants (tests cite them)
    S1  The same entries give the same bytes of snapshot, on every node, restored or not.
    S2  A command that changes something makes exactly one revision; one that is refused changes no
        key, no lease and no revision.
    S3  A read at a revision answers alike for ever, until that revision is compacted.
    S4  A watcher gets every change of its interval once, in order, or an error.

Source: the model of etcd's version 3 store (revisions, leases, compaction), with sessions after
Ongaro 2014; differs in: time is the log's, and the quota stands in the log.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from month5_kvstore.store.commands import (
    Answer,
    Command,
    Compact,
    Compare,
    Delete,
    Deleted,
    Disarm,
    Done,
    Envelope,
    Found,
    Grant,
    KeepAlive,
    LeaseAnswer,
    OpenSession,
    Operation,
    PassTime,
    Put,
    PutDone,
    Range,
    Refused,
    Revoke,
    SessionOpened,
    SetQuota,
    Transaction,
)
from month5_kvstore.store.errors import (
    KeyMissing,
    NoSpace,
    RevisionCompacted,
    RevisionInFuture,
)
from month5_kvstore.store.journal import Change, Journal
from month5_kvstore.store.key_map import KeyMap
from month5_kvstore.store.leases import Leases
from month5_kvstore.store.sessions import Sessions
from month5_kvstore.store.transactions import course_of, holds, refuse_duplicates
from month5_kvstore.store.values import Event, Interval, KeyValue, Version
from month5_kvstore.store.wire import decode_envelope
from scalelab.errors import ScalelabError

QUOTA_BYTES = 2 << 30
VERSION_BYTES = 128
"""Counted for each version on top of its key and its value."""


class Store:
    """The state. Reads are for any time between two calls of `apply`; nothing is thread-safe."""

    def __init__(self) -> None:
        """An empty store, at revision 1."""
        self.revision = 1
        self.compacted = 0
        self.time_ms = 0
        self.size_bytes = 0
        self.quota_bytes = QUOTA_BYTES
        self.alarm = False
        self.keys = KeyMap()
        self.journal = Journal(1)
        self.leases = Leases()
        self.sessions = Sessions()

    def apply(self, entry: bytes) -> Answer:
        """Carry out an entry. Raises CorruptData for one that cannot be read: the node halts."""
        return self.execute(decode_envelope(entry))

    def execute(self, envelope: Envelope) -> Answer:
        """Let time pass, then carry out the command, or remember that it was (X1).

        A refusal is an answer as well; only a mistake of ours raises.
        """
        self.time_ms = max(self.time_ms, envelope.time_ms)
        self._expire()
        if not envelope.session:
            return self._answer(envelope.command)
        try:
            known = self.sessions.recall(envelope, self.time_ms)
        except ScalelabError as error:
            return _refusal(error)
        if known is None:
            known = self._answer(envelope.command)
            self.sessions.remember(envelope, known)
        return known

    def find(self, query: Range) -> Found:
        """Read keys. Raises RevisionCompacted, RevisionInFuture.

        Cost: a step for each key of the interval, and one for each version newer than asked for.
        """
        at = query.revision
        self._require(at)
        items: list[KeyValue] = []
        count = 0
        for key, tip in self.keys.range(query.interval):
            version = tip.at(at) if at else tip
            if version is None or not version.version:
                continue
            count += 1
            if query.count_only or (query.limit and len(items) >= query.limit):
                continue
            item = version.item(key)
            items.append(item._replace(value=b"") if query.keys_only else item)
        return Found(self.revision, tuple(items), count)

    def events(
        self, first: int, interval: Interval, *, revisions_max: int = 100
    ) -> tuple[tuple[Event, ...], int]:
        """Changes from revision `first` on, and the revision to ask for next (S4).

        A revision is never split. One that is still to come gives nothing yet. Raises
        RevisionCompacted if changes may be missing.
        """
        if first <= self.compacted:
            raise RevisionCompacted(first, self.compacted)
        if first > self.revision:
            return (), first
        return self.journal.read(
            max(first, self.journal.floor + 1), interval, revisions_max=revisions_max
        )

    def _answer(self, command: Command) -> Answer:
        try:
            return self._carry_out(command)
        except ScalelabError as error:
            return _refusal(error)

    def _carry_out(self, command: Command) -> Answer:
        match command:
            case Put() | Delete():
                if isinstance(command, Put) and command.lease:
                    self.leases.get(command.lease)  # told first, whatever else is wrong
                return self._transact((command,))[0]
            case Transaction():
                refuse_duplicates(command)
                course = course_of(command, self._meets)
                answers = self._transact(course.operations())
                return course.done(iter(answers), self.revision)
            case Grant(ttl_ms, wanted):
                self._require_space(VERSION_BYTES)
                lease = self.leases.grant(wanted, ttl_ms, self.time_ms)
                return LeaseAnswer(self.revision, lease, ttl_ms)
            case KeepAlive(lease):
                kept = self.leases.keep(lease, self.time_ms)
                return LeaseAnswer(self.revision, lease, kept.ttl_ms)
            case OpenSession(ttl_ms):
                return SessionOpened(self.revision, self.sessions.open(ttl_ms, self.time_ms))
            case _:
                return self._govern(command)

    def _govern(self, command: Revoke | Compact | SetQuota | Disarm | PassTime) -> Done:
        match command:
            case Revoke(lease):
                self._end_lease(lease)
            case Compact(revision):
                self._compact(revision)
            case SetQuota(size):
                self.quota_bytes = size
            case Disarm():
                self.alarm = False
            case PassTime():
                pass
        return Done(self.revision)

    def _transact(self, operations: Iterable[Operation]) -> tuple[PutDone | Deleted | Found, ...]:
        """Look at everything that may fail, then do it all at one revision (S2)."""
        operations = tuple(operations)
        growth = 0
        for operation in operations:
            if isinstance(operation, Put):
                growth += self._growth(operation)
        for operation in operations:  # after all puts: the refusal that etcd would tell of
            if isinstance(operation, Range):
                self._require(operation.revision)
        if growth:
            self._require_space(growth)
        changes: list[Change] = []
        answers = tuple(self._operate(operation, changes) for operation in operations)
        self._commit(changes)
        return answers

    def _meets(self, compare: Compare) -> bool:
        """Of an interval: whether all keys that are there do; where none is, as one that is not."""
        if compare.end is None:
            return holds(compare, self.keys.get(compare.key))
        found = self.keys.range(Interval(compare.key, compare.end))
        tips = [tip for _, tip in found if tip.version] or [None]
        return all(holds(compare, tip) for tip in tips)

    def _growth(self, put: Put) -> int:
        """Bytes that it will add. Raises KeyMissing, LeaseMissing."""
        size = len(put.value)
        if put.keep_value or put.keep_lease:
            tip = self.keys.get(put.key)
            if tip is None or not tip.version:
                raise KeyMissing(f"there is no {put.key[:60]!r} whose value or lease could be kept")
            size = len(tip.value) if put.keep_value else size
        if put.lease and not put.keep_lease:
            self.leases.get(put.lease)
        return VERSION_BYTES + len(put.key) + size

    def _operate(self, operation: Operation, changes: list[Change]) -> PutDone | Deleted | Found:
        match operation:
            case Put():
                return self._put(operation, changes)
            case Delete(interval, want_previous):
                gone = self._delete([key for key, _ in self.keys.range(interval)], changes)
                told = tuple(gone) if want_previous else ()
                return Deleted(self.revision + bool(changes), len(gone), told)
            case Range():
                found = self.find(operation)
                return replace(found, revision=self.revision + bool(changes))

    def _put(self, put: Put, changes: list[Change]) -> PutDone:
        tip = self.keys.get(put.key)
        alive = tip if tip is not None and tip.version else None
        value, lease = put.value, put.lease
        if alive is not None:
            value = alive.value if put.keep_value else value
            lease = alive.lease if put.keep_lease else lease
        created, version = (alive.created, alive.version + 1) if alive else (self.revision + 1, 1)
        self._write(put.key, tip, created, version, value, lease, changes)
        previous = alive.item(put.key) if alive is not None and put.want_previous else None
        return PutDone(self.revision + 1, previous)

    def _delete(self, keys: Iterable[bytes], changes: list[Change]) -> list[KeyValue]:
        gone: list[KeyValue] = []
        for key in keys:
            tip = self.keys.get(key)
            if tip is not None and tip.version:
                gone.append(tip.item(key))
                self._write(key, tip, 0, 0, b"", 0, changes)
        return gone

    def _write(
        self,
        key: bytes,
        tip: Version | None,
        created: int,
        version: int,
        value: bytes,
        lease: int,
        changes: list[Change],
    ) -> None:
        self.leases.move(key, tip.lease if tip is not None else 0, lease)
        new = Version(self.revision + 1, len(changes), created, version, value, lease, tip)
        self.keys.set(key, new)
        self.size_bytes += weight(key, new)
        changes.append(Change(key, new))

    def _commit(self, changes: list[Change]) -> None:
        if changes:
            self.revision += 1
            self.journal.append(tuple(changes))

    def _expire(self) -> None:
        """End what is due, leases in order, each at a revision of its own (E1)."""
        while (lease := self.leases.next_due(self.time_ms)) is not None:
            self._end_lease(lease)
        self.sessions.expire(self.time_ms)

    def _end_lease(self, lease: int) -> None:
        changes: list[Change] = []
        self._delete(sorted(self.leases.get(lease).keys), changes)
        self.leases.end(lease)
        self._commit(changes)

    def _compact(self, revision: int) -> None:
        if revision <= self.compacted:
            raise RevisionCompacted(revision, self.compacted)
        if revision > self.revision:
            raise RevisionInFuture(f"the newest revision is {self.revision}", field="revision")
        self.compacted = revision
        for key in {change.key for change in self.journal.forget(revision)}:
            tip = self.keys.get(key)
            if tip is None:
                continue
            kept, freed = cut(key, tip, revision)
            self.size_bytes -= freed
            if kept is None:
                self.keys.remove(key)
            elif kept is not tip:
                self.keys.set(key, kept)

    def _require(self, revision: int) -> None:
        if revision > self.revision:
            raise RevisionInFuture(f"the newest revision is {self.revision}", field="revision")
        if revision and revision < self.compacted:
            raise RevisionCompacted(revision, self.compacted)

    def _require_space(self, growth: int) -> None:
        self.alarm = self.alarm or self.size_bytes + growth > self.quota_bytes
        if self.alarm:
            raise NoSpace(
                f"{self.size_bytes} of {self.quota_bytes} bytes are used. Delete keys, compact, "
                f"then disarm the alarm"
            )


def weight(key: bytes, version: Version) -> int:
    """Bytes that a version counts against the quota."""
    return VERSION_BYTES + len(key) + len(version.value)


def cut(key: bytes, tip: Version, revision: int) -> tuple[Version | None, int]:
    """A key's versions without those superseded at `revision`, and the bytes that went.

    The same object if nothing went, else copies: a snapshot may hold the old ones. None if only a
    tombstone would be left.
    """
    kept: list[Version] = []
    at: Version | None = tip
    while at is not None and at.revision > revision:
        kept.append(at)
        at = at.previous
    if at is not None and at.version:
        kept.append(at)
        at = at.previous
    if at is None:
        return tip, 0
    freed = 0
    while at is not None:
        freed += weight(key, at)
        at = at.previous
    chain: Version | None = None
    for old in reversed(kept):
        chain = Version(
            old.revision, old.sub, old.created, old.version, old.value, old.lease, chain
        )
    return chain, freed


def _refusal(error: ScalelabError) -> Refused:
    detail = error.compacted if isinstance(error, RevisionCompacted) else 0
    return Refused(error.stable_code, error.message, detail)
