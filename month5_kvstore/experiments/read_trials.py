"""Groups whose leader gets lost, tick by tick: one client writes on, another one reads.

One of five nodes leads. At a random tick it is cut off from all others, who elect a successor; the
writer goes on there. The reader asks the first leader all along, in one of several ways; or, to
compare, a follower on the other side. A leg of the network takes a tick. All time is virtual.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

from month5_kvstore.experiments.hand_led import HandLed
from month5_kvstore.raft import EntryKind, Raft, Ready, Role, Settings
from month5_kvstore.simulation import Call
from scalelab.errors import Retryable

NODES = 5
ELECTION_TICKS = 40
HEARTBEAT_TICKS = 4
FROZEN_TICKS = 4 * ELECTION_TICKS

_WATCHED_TICKS = 5 * ELECTION_TICKS
_FINE = 10
"""Instants between two ticks, so that what happens in one tick has an order."""


class Way(StrEnum):
    """How the reader asks."""

    LOCAL = "local"
    """The first leader answers from what it has applied, as long as it believes that it leads."""

    ROUND = "round"
    """It asks a majority first (ReadIndex), or has a lease, as its settings say."""

    FOLLOWER = "follower"
    """A follower that hears the leader answers from what it has applied."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What else is wrong with the first leader. slow: its clock moves once in so many ticks.
    frozen: it stands still from the cut on for FROZEN_TICKS."""

    slow: int = 1
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class Reads:
    """Of one trial. stale: answers older than a write that had been acknowledged before the
    question. behind_ticks: at the most, since the oldest write that was missed. calls: for the
    checker."""

    asked: int
    answered: int
    stale: int
    behind_ticks: int
    calls: tuple[Call, ...]


class _Trial:
    def __init__(self, way: Way, settings: Settings, trouble: Trouble, seed: str) -> None:
        self._way = way
        self._trouble = trouble
        self._group = HandLed(NODES, settings, random=lambda node: Random(f"{seed} {node}"))
        self._first = self._group.elected()
        self._group.done = self._done
        self._cut_at = ELECTION_TICKS + Random(seed).randrange(ELECTION_TICKS)
        self._tick = 0
        self._held = dict.fromkeys(self._group.rafts, 0)
        self._applied = dict.fromkeys(self._group.rafts, 0)
        self._open: dict[int, int] = {}
        self._ripe: list[tuple[int, int]] = []
        self._writing: tuple[int, int, int] | None = None
        self._written = 0
        self._acknowledged: list[tuple[int, int]] = [(0, 0)]
        self._calls: list[Call] = []
        self._asked = self._stale = self._behind = 0

    def run(self) -> Reads:
        """The whole trial."""
        group = self._group
        for tick in range(1, self._cut_at + _WATCHED_TICKS):
            self._tick = tick
            if tick == self._cut_at:
                group.cut = {self._first}
            self._write()
            if not self._stands():
                self._ask()
            for node, raft in group.rafts.items():
                if node != self._first or self._moves():
                    raft.tick()
            group.leg()
        self._give_up()
        reads = [call for call in self._calls if call.verb == "get"]
        return Reads(self._asked, len(reads), self._stale, self._behind, tuple(self._calls))

    def _stands(self) -> bool:
        """Whether the first leader is frozen now."""
        since = self._tick - self._cut_at
        return self._trouble.frozen and 0 <= since < FROZEN_TICKS

    def _moves(self) -> bool:
        return not self._stands() and self._tick % self._trouble.slow == 0

    def _write(self) -> None:
        """One write at a time, at whoever leads the writer's side; a lost one is given up."""
        group = self._group
        leading = {
            node: raft.term
            for node, raft in group.rafts.items()
            if raft.role is Role.LEADER and node not in group.cut
        }
        if self._writing is not None and self._writing[0] not in leading:
            self._give_up()
        if self._writing is None and leading:
            node = max(leading, key=lambda one: leading[one])
            self._written += 1
            group.rafts[node].propose(b"%d" % self._written)
            self._writing = (node, self._written, self._now())

    def _give_up(self) -> None:
        """The write under way may have its effect, or may not."""
        if self._writing is not None:
            _, value, called = self._writing
            self._calls.append(Call(self._number(), "r", "put", (value,), called, None, None))
            self._writing = None

    def _ask(self) -> None:
        rafts, self._asked = self._group.rafts, self._asked + 1
        raft = rafts[self._first]
        if self._way is Way.FOLLOWER:
            others = (node for node in rafts if node != self._first)
            node = next(one for one in others if rafts[one].role is not Role.LEADER)
            self._answer(self._held[node], self._now())
        elif self._way is Way.LOCAL and raft.role is Role.LEADER:
            self._answer(self._held[self._first], self._now())
        elif self._way is Way.ROUND and raft.role is Role.LEADER:
            self._ask_for_a_round(raft)

    def _ask_for_a_round(self, raft: Raft) -> None:
        try:
            raft.read(self._asked)
        except Retryable:
            return
        self._open[self._asked] = self._now()

    def _answer(self, value: int, called: int) -> None:
        """The reader has an answer to what it asked at `called`."""
        missed = [at for at, written in self._acknowledged if at < called and written > value]
        if missed:
            self._stale += 1
            self._behind = max(self._behind, -((min(missed) - called) // _FINE))
        now = max(self._now(), called) + 1
        self._calls.append(Call(self._number(), "r", "get", (), called, now, value))

    def _done(self, node: int, ready: Ready) -> None:
        """A node has performed a Ready: it applies, and answers whom it can."""
        for entry in ready.committed:
            self._applied[node] = entry.index
            if entry.kind is EntryKind.COMMAND:
                self._held[node] = int(entry.data)
        writing = self._writing
        if writing is not None and writing[0] == node and self._held[node] == writing[1]:
            at = self._now() + 5
            self._acknowledged.append((at, writing[1]))
            call = Call(self._number(), "r", "put", (writing[1],), writing[2], at, None)
            self._calls.append(call)
            self._writing = None
        if node == self._first:
            self._confirm(ready)

    def _confirm(self, ready: Ready) -> None:
        for state in ready.reads:
            called = self._open.pop(state.context, None)
            if called is not None and state.index is not None:
                self._ripe.append((state.index, called))
        for index, called in self._ripe:
            if index <= self._applied[self._first]:
                self._answer(self._held[self._first], called)
        self._ripe = [one for one in self._ripe if one[0] > self._applied[self._first]]

    def _now(self) -> int:
        return self._tick * _FINE

    def _number(self) -> int:
        return len(self._calls) + 1


def read_on(way: Way, settings: Settings, trouble: Trouble, seed: str) -> Reads:
    """One trial; the same arguments give the same one."""
    return _Trial(way, settings, trouble, seed).run()


def messages_a_read(nodes: int, reads: int, settings: Settings) -> float:
    """Ask a leader that nobody disturbs so many times at once; messages for each answer."""
    group = HandLed(nodes, settings)
    leader = group.elected()
    for _ in range(2 * settings.heartbeat_ticks):
        group.tick()
    group.settle()
    answered: set[int] = set()

    def note(node: int, ready: Ready) -> None:
        answered.update(state.context for state in ready.reads if node == leader)

    group.done = note
    for context in range(reads):
        group.rafts[leader].read(context)
    return group.until(lambda: len(answered) == reads).messages / reads
