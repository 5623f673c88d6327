"""A store that keeps a whole copy of everything at each revision, and looks everything up there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from month5_kvstore.store import (
    Answer,
    Command,
    Compact,
    Compare,
    Delete,
    Deleted,
    Done,
    Event,
    EventKind,
    Found,
    Grant,
    Interval,
    KeepAlive,
    KeyValue,
    LeaseAnswer,
    Operation,
    Put,
    PutDone,
    Range,
    Refused,
    Relation,
    Revoke,
    Step,
    Target,
    Transaction,
    TransactionDone,
)

State = dict[bytes, KeyValue]
Leaf = tuple[tuple[tuple[int, int], ...], Operation]
"""An operation, and where it stands: at each level its place, and the branch of what is there."""


class _No(Exception):
    def __init__(self, code: str, detail: int = 0) -> None:
        self.code, self.detail = code, detail


def _leaves(branch: Sequence[Step]) -> Iterator[Leaf]:
    for place, step in enumerate(branch):
        if isinstance(step, Transaction):
            for number, inner in enumerate((step.then, step.otherwise)):
                for path, leaf in _leaves(inner):
                    yield ((place, number), *path), leaf
        else:
            yield ((place, 0),), step


def _clash(one: Leaf, other: Leaf) -> bool:
    """Whether two operations may not stand in one transaction where they stand."""
    (path, first), (other_path, second) = one, other
    level = 0
    while path[level][0] == other_path[level][0]:
        if path[level][1] != other_path[level][1]:
            return False  # two branches, of which only one is taken
        level += 1
    if isinstance(first, Put) and isinstance(second, Put):
        return first.key == second.key
    inside = level + 1 < len(path), level + 1 < len(other_path)
    if isinstance(first, Put) and isinstance(second, Delete):
        return inside != (True, True) and first.key in second.interval
    if isinstance(first, Delete) and isinstance(second, Put):
        return second.key in first.interval
    return False


@dataclass
class DumbModel:
    """states[i]: all keys at revision i + 1. leases: id to (ttl_ms, deadline_ms)."""

    states: list[State] = field(default_factory=lambda: [{}])
    events: list[list[Event]] = field(default_factory=lambda: [[]])
    compacted: int = 0
    now_ms: int = 0
    leases: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    last_lease: int = 0

    @property
    def revision(self) -> int:
        return len(self.states)

    def execute(self, command: Command, time_ms: int) -> Answer:
        self.now_ms = max(self.now_ms, time_ms)
        while due := [(end, one) for one, (_, end) in self.leases.items() if end <= self.now_ms]:
            self._end(min(due)[1])
        try:
            return self._do(command)
        except _No as no:
            return Refused(no.code, "", no.detail)

    def _do(self, command: Command) -> Answer:  # noqa: C901 - one branch a command
        match command:
            case Put() | Delete():
                if isinstance(command, Put) and command.lease:
                    self._lease(command.lease)
                return self._all((command,))[0]
            case Transaction():
                for branch in (command.then, command.otherwise):
                    leaves = list(_leaves(branch))
                    if any(_clash(*pair) for pair in combinations(leaves, 2)):
                        raise _No("duplicate_key")
                before = self.states[-1]
                answers = iter(self._all(tuple(self._taken(command, before))))
                return self._told(command, before, answers)
            case Grant(ttl_ms, wanted):
                if wanted in self.leases:
                    raise _No("lease_exists")
                lease = wanted
                while not lease or lease in self.leases:
                    self.last_lease += 1
                    lease = self.last_lease
                self.leases[lease] = (ttl_ms, self.now_ms + ttl_ms)
                return LeaseAnswer(self.revision, lease, ttl_ms)
            case KeepAlive(lease):
                ttl_ms = self._lease(lease)
                self.leases[lease] = (ttl_ms, self.now_ms + ttl_ms)
                return LeaseAnswer(self.revision, lease, ttl_ms)
            case Revoke(lease):
                self._lease(lease)
                self._end(lease)
            case Compact(revision):
                if revision <= self.compacted:
                    raise _No("revision_compacted", self.compacted)
                if revision > self.revision:
                    raise _No("revision_in_future")
                self.compacted = revision
            case _:
                pass
        return Done(self.revision)

    def find(self, query: Range) -> Found | Refused:
        at = query.revision or self.revision
        if at > self.revision:
            return Refused("revision_in_future", "")
        if at < self.compacted:
            return Refused("revision_compacted", "", self.compacted)
        return self._find(self.states[at - 1], query)

    def events_from(self, first: int, interval: Interval) -> list[Event]:
        """previous is left out: compaction may take it away at any time."""
        return [
            one._replace(previous=None)
            for events in self.events[first - 1 :]
            for one in events
            if one.item.key in interval
        ]

    def _lease(self, lease: int) -> int:
        if lease not in self.leases:
            raise _No("lease_not_found")
        return self.leases[lease][0]

    def _end(self, lease: int) -> None:
        del self.leases[lease]
        state = dict(self.states[-1])
        gone = sorted(key for key, item in state.items() if item.lease == lease)
        events = [self._remove(state, key) for key in gone]
        self._keep(state, events)

    def _remove(self, state: State, key: bytes) -> Event:
        old = state.pop(key)
        return Event(EventKind.DELETE, KeyValue(key, b"", 0, self.revision + 1, 0, 0), old)

    def _keep(self, state: State, events: list[Event]) -> None:
        if events:
            self.states.append(state)
            self.events.append(events)

    def _all(self, operations: tuple[Operation, ...]) -> tuple[PutDone | Deleted | Found, ...]:
        state = dict(self.states[-1])
        for one in sorted(operations, key=lambda one: isinstance(one, Range)):
            if isinstance(one, Put):
                if (one.keep_value or one.keep_lease) and one.key not in state:
                    raise _No("key_not_found")
                if one.lease and not one.keep_lease:
                    self._lease(one.lease)
            elif isinstance(one, Range):
                found = self.find(one)
                if isinstance(found, Refused):
                    raise _No(found.code, found.detail)
        events: list[Event] = []
        answers = tuple(self._one(one, state, events) for one in operations)
        self._keep(state, events)
        return answers

    def _taken(self, transaction: Transaction, before: State) -> Iterator[Operation]:
        """The operations that will be carried out, in order."""
        met = all(self._holds(one, before) for one in transaction.compares)
        for step in transaction.then if met else transaction.otherwise:
            if isinstance(step, Transaction):
                yield from self._taken(step, before)
            else:
                yield step

    def _told(
        self, transaction: Transaction, before: State, answers: Iterator[Any]
    ) -> TransactionDone:
        met = all(self._holds(one, before) for one in transaction.compares)
        steps = transaction.then if met else transaction.otherwise
        told = tuple(
            self._told(one, before, answers) if isinstance(one, Transaction) else next(answers)
            for one in steps
        )
        return TransactionDone(self.revision, met, told)

    def _one(
        self, operation: Operation, state: State, events: list[Event]
    ) -> PutDone | Deleted | Found:
        match operation:
            case Range():
                past = self.states[operation.revision - 1] if operation.revision else state
                found = self._find(past, operation)
                return replace(found, revision=self.revision + bool(events))
            case Delete(interval, want_previous):
                gone = sorted(key for key in state if key in interval)
                old = tuple(state[key] for key in gone)
                events += [self._remove(state, key) for key in gone]
                told = old if want_previous else ()
                return Deleted(self.revision + bool(events), len(gone), told)
            case Put():
                return self._put(operation, state, events)

    def _put(self, put: Put, state: State, events: list[Event]) -> PutDone:
        old, revision = state.get(put.key), self.revision + 1
        item = KeyValue(
            put.key,
            old.value if old and put.keep_value else put.value,
            old.created if old else revision,
            revision,
            old.version + 1 if old else 1,
            old.lease if old and put.keep_lease else put.lease,
        )
        state[put.key] = item
        events.append(Event(EventKind.PUT, item, old))
        return PutDone(revision, old if put.want_previous else None)

    def _find(self, state: State, query: Range) -> Found:
        items = [state[key] for key in sorted(state) if key in query.interval]
        count = len(items)
        if query.count_only:
            items = []
        if query.limit:
            items = items[: query.limit]
        if query.keys_only:
            items = [item._replace(value=b"") for item in items]
        return Found(self.revision, tuple(items), count)

    def _holds(self, compare: Compare, state: State) -> bool:
        item = state.get(compare.key)
        if compare.target == Target.VALUE and item is None:
            return False
        empty = KeyValue(compare.key, b"", 0, 0, 0, 0)
        one = item or empty
        found: bytes | int = {
            Target.VALUE: one.value,
            Target.VERSION: one.version,
            Target.CREATED: one.created,
            Target.MODIFIED: one.modified,
            Target.LEASE: one.lease,
        }[compare.target]
        wanted = compare.operand
        return {
            Relation.EQUAL: found == wanted,
            Relation.NOT_EQUAL: found != wanted,
            Relation.LESS: found < wanted,  # type: ignore[operator]
            Relation.GREATER: found > wanted,  # type: ignore[operator]
        }[compare.relation]
