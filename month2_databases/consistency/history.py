"""What a store promises its users, judged on a history of what they did and saw. Pure.

A history is what each session did, in its order: writes with the version they made, reads with
the version they returned. Versions of a key are ordered integers; 0 is "never written". What order
they come from is the caller's: a counter, a log position, the timestamp of a last-write-wins store.

The promises (Terry et al. 1994; rules in the words of Viotti and Vukolic 2016)
    read your writes      a read returns the reader's own last write of the key, or something newer
    monotonic reads       a read never returns something older than this session has read before
    monotonic writes      a session's writes take effect in its order: none loses to an earlier
                          one of its own, and who sees the second also sees the first
    writes follow reads   a write comes after what its writer had read: it does not lose to it,
                          and who sees the write also sees what its writer had seen
    causal                all of these, along chains of any length: who sees an effect sees
                          everything that it may have been caused by (Ahamad et al. 1995)
    written               a read returns only what somebody wrote

The checker knows nothing of the store. It needs no clock: only the order within each session, and
which read saw which write. A write whose outcome is unknown belongs into the history: it may be
seen. A read that failed does not. It decides these promises, not linearizability: a store may keep
all of them and still show everybody but the writer the past.

Cost: O(operations x keys in the causal past).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from scalelab.errors import InvalidInput

UNWRITTEN = 0
"""The version of a key that nobody has written."""


class Promise(StrEnum):
    """What may be broken."""

    READ_YOUR_WRITES = "read your writes"
    MONOTONIC_READS = "monotonic reads"
    MONOTONIC_WRITES = "monotonic writes"
    WRITES_FOLLOW_READS = "writes follow reads"
    CAUSAL = "causal"
    WRITTEN = "written"


@dataclass(frozen=True, slots=True)
class Write:
    """A write of `key` that made `version` (> 0, its own for this key)."""

    key: str
    version: int


@dataclass(frozen=True, slots=True)
class Read:
    """A read of `key` that returned `version`; 0 where there was nothing."""

    key: str
    version: int


Operation = Write | Read
History = Mapping[str, Sequence[Operation]]
"""What each session did, in its order."""


@dataclass(frozen=True, slots=True)
class Broken:
    """One promise, broken by the operation number `index` (from 0) of `session`. why: a sentence
    with both sides of the disagreement."""

    promise: Promise
    session: str
    index: int
    why: str


@dataclass(slots=True)
class _Past:
    """Highest version of each key: of what one may know, by how one came to know it."""

    own: dict[str, int] = field(default_factory=dict[str, int])
    read: dict[str, int] = field(default_factory=dict[str, int])
    writer_wrote: dict[str, int] = field(default_factory=dict[str, int])
    writer_read: dict[str, int] = field(default_factory=dict[str, int])
    everything: dict[str, int] = field(default_factory=dict[str, int])

    def seen_by_others(self) -> _Past:
        """What the next write of this session carries along for whoever reads it."""
        return _Past(dict(self.own), dict(self.read), {}, {}, dict(self.everything))

    def learn(self, carried: _Past) -> None:
        """Having read a write, its writer's past is part of this one."""
        _raise_to(self.writer_wrote, carried.own)
        _raise_to(self.writer_read, carried.read)
        _raise_to(self.everything, carried.everything)


def broken_promises(history: History) -> list[Broken]:
    """Every broken promise, by session and place; empty if all were kept.

    A read that breaks a named promise is reported under it; `causal` is for chains that no named
    promise covers. Raises InvalidInput if two writes of a key made the same version.
    """
    return _Checker(history).run()


def count_by_promise(broken: Iterable[Broken]) -> dict[Promise, int]:
    """How often each promise was broken; every promise is there."""
    counts = dict.fromkeys(Promise, 0)
    for one in broken:
        counts[one.promise] += 1
    return counts


class _Checker:
    """Walks all sessions at once: a read waits until the write it saw has been walked over."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._made = _writers(history)
        self._carried: dict[tuple[str, int], _Past] = {}
        self._past: dict[str, _Past] = defaultdict(_Past)
        self._found: list[Broken] = []

    def run(self) -> list[Broken]:
        at = dict.fromkeys(self._history, 0)
        moved = True
        while moved:
            moved = False
            for session, operations in self._history.items():
                while at[session] < len(operations) and self._can_walk(operations[at[session]]):
                    self._walk(session, at[session], operations[at[session]])
                    at[session] += 1
                    moved = True
        for session, operations in self._history.items():
            if at[session] < len(operations):
                why = "it saw a write that was made only after somebody had seen it: a circle"
                self._report(Promise.CAUSAL, session, at[session], why)
        return sorted(self._found, key=lambda one: (one.session, one.index, one.promise))

    def _can_walk(self, operation: Operation) -> bool:
        if isinstance(operation, Write):
            return True
        seen = (operation.key, operation.version)
        return seen not in self._made or seen in self._carried

    def _walk(self, session: str, index: int, operation: Operation) -> None:
        past = self._past[session]
        key, version = operation.key, operation.version
        if isinstance(operation, Write):
            self._judge_write(session, index, operation, past)
            self._carried[key, version] = past.seen_by_others()
            _raise_to(past.own, {key: version})
            _raise_to(past.everything, {key: version})
            return
        if version != UNWRITTEN and (key, version) not in self._made:
            self._report(
                Promise.WRITTEN, session, index, f"nobody wrote version {version} of {key}"
            )
            return
        self._judge_read(session, index, operation, past)
        _raise_to(past.read, {key: version})
        _raise_to(past.everything, {key: version})
        if version != UNWRITTEN:
            past.learn(self._carried[key, version])

    def _judge_write(self, session: str, index: int, write: Write, past: _Past) -> None:
        rules = (
            (Promise.MONOTONIC_WRITES, past.own, "this session's own earlier"),
            (Promise.WRITES_FOLLOW_READS, past.read, "what this session had read,"),
        )
        for promise, known, whose in rules:
            other = known.get(write.key, UNWRITTEN)
            if write.version < other:
                why = f"version {write.version} of {write.key} loses to {whose} version {other}"
                self._report(promise, session, index, why)

    def _judge_read(self, session: str, index: int, read: Read, past: _Past) -> None:
        rules = (
            (Promise.READ_YOUR_WRITES, past.own, "wrote itself"),
            (Promise.MONOTONIC_READS, past.read, "had read before"),
            (Promise.MONOTONIC_WRITES, past.writer_wrote, "knew as older than what it had read"),
            (Promise.WRITES_FOLLOW_READS, past.writer_read, "knew its writer had read"),
        )
        named = False
        for promise, known, how in rules:
            expected = known.get(read.key, UNWRITTEN)
            if read.version < expected:
                named = True
                self._report(promise, session, index, _too_old(read, expected, how))
        expected = past.everything.get(read.key, UNWRITTEN)
        if not named and read.version < expected:
            how = "could know by a chain of reads and writes"
            self._report(Promise.CAUSAL, session, index, _too_old(read, expected, how))

    def _report(self, promise: Promise, session: str, index: int, why: str) -> None:
        self._found.append(Broken(promise, session, index, why))


def _writers(history: History) -> set[tuple[str, int]]:
    made: set[tuple[str, int]] = set()
    for session, operations in history.items():
        for operation in operations:
            if isinstance(operation, Read):
                continue
            if operation.version <= UNWRITTEN:
                raise InvalidInput(
                    f"a write of {operation.key} by {session} made version {operation.version}",
                    field="version",
                )
            name = (operation.key, operation.version)
            if name in made:
                raise InvalidInput(
                    f"two writes made version {operation.version} of {operation.key}",
                    field="version",
                )
            made.add(name)
    return made


def _too_old(read: Read, expected: int, how: str) -> str:
    return f"read version {read.version} of {read.key}, although it {how} version {expected}"


def _raise_to(known: dict[str, int], other: Mapping[str, int]) -> None:
    for key, version in other.items():
        if version > known.get(key, UNWRITTEN):
            known[key] = version
