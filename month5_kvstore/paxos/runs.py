"""Seeded runs under virtual time: loss, repetition, reordering, crashes, slow disks, duels.

Every node is proposer, acceptor and learner at once. A node carries its effects out in order, and a
Store takes time; a crash loses what was not carried out, and all that was not stored. During the
storm only the day's proposers propose. After it nothing is broken any more, and every node that
does not know the outcome yet proposes, until all know.

One queue of events by time, ties in order of scheduling, one generator from the seed: the same day
is the same run everywhere. No thread, no sleep, no socket.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from month5_kvstore.paxos.acceptor import Acceptor, answer
from month5_kvstore.paxos.learner import Learner, learn
from month5_kvstore.paxos.messages import (
    Accept,
    Accepted,
    AcceptorRecord,
    Effect,
    Message,
    Prepare,
    Promise,
    Proposal,
    ProposerRecord,
    Refused,
    Store,
)
from month5_kvstore.paxos.patience import Patience
from month5_kvstore.paxos.proposer import Proposer, begin, hear, majority

_CALM_US = 60_000_000


@dataclass(frozen=True, slots=True)
class Crash:
    """node is down from at_us until until_us."""

    node: int
    at_us: int
    until_us: int


@dataclass(frozen=True, slots=True)
class Day:
    """One run, as a value. nodes: 1 … nodes. starts_us: when the nodes 1, 2, … begin their first
    ballot; the others keep still. latency_us: least and most of one leg. loss, doubling, late:
    chances of a message; a late one takes up to 20 times as long. disk_us: the most that a Store
    takes. stormy_us: when losses and crashes end, and the others propose as well. ballots_max: a
    run with more is given up as undecided."""

    seed: int
    nodes: int
    starts_us: tuple[int, ...]
    patience: Patience
    latency_us: tuple[int, int]
    loss: float = 0.0
    doubling: float = 0.0
    late: float = 0.0
    disk_us: int = 0
    crashes: tuple[Crash, ...] = ()
    stormy_us: int = 0
    ballots_max: int = 10_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. complaint: what was broken, None if nothing. chosen: None if nothing was.
    ballots: begun until the first node knew; messages: sent until then. decided_at_us: when that
    was. ended_at_us: when all knew, or the run was given up. crashed:
    crashes of nodes that were up."""

    complaint: str | None
    chosen: str | None
    ballots: int
    messages: int
    decided_at_us: int
    ended_at_us: int
    crashed: int


def draw(seed: int) -> Day:
    """A bad day from a seed: three or five nodes, all faults at once."""
    random = Random(f"day {seed}")
    nodes = random.choice((3, 3, 5))
    fastest_us = random.choice((100, 1_000))
    slowest_us = fastest_us * random.choice((1, 4, 40))
    proposers = random.randint(2, nodes)
    stormy_us = slowest_us * random.randint(10, 60)
    crashes: list[Crash] = []
    for _ in range(random.randrange(8)):
        at_us = random.randrange(stormy_us)
        until_us = at_us + random.randrange(1, 10 * slowest_us)
        crashes.append(Crash(random.randint(1, nodes), at_us, min(until_us, stormy_us)))
    return Day(
        seed=seed,
        nodes=nodes,
        starts_us=tuple(random.randrange(4 * slowest_us) for _ in range(proposers)),
        patience=Patience(slowest_us * random.choice((1, 2, 4, 8))),
        latency_us=(fastest_us, slowest_us),
        loss=random.choice((0.0, 0.1, 0.3)),
        doubling=random.choice((0.0, 0.3)),
        late=random.choice((0.0, 0.1, 0.3)),
        disk_us=random.choice((0, fastest_us, slowest_us)),
        crashes=tuple(crashes),
        stormy_us=stormy_us,
    )


def run(day: Day) -> Outcome:
    """Play the day to its end, or to the first broken rule."""
    return _World(day).run()


class _Broken(Exception):
    """Ends a run. Its text is the complaint."""


class _Node:
    """Three agents, one disk, and the effects that wait for it."""

    def __init__(self, number: int, nodes: int) -> None:
        self.number = number
        self.everyone = tuple(range(1, nodes + 1))
        self.acceptor_record = AcceptorRecord()
        self.proposer_record = ProposerRecord()
        self.life = 0
        self.ballots = 0
        self.up = self.storing = False
        self.effects: deque[Effect] = deque()
        self.learner = Learner(number, nodes)
        self.start()

    def start(self) -> None:
        """From what is on disk; every life has another value to propose."""
        number = self.number
        self.up, self.life, self.storing = True, self.life + 1, False
        self.effects.clear()
        self.acceptor = Acceptor(number, self.everyone, self.acceptor_record)
        wanted = f"value {number}.{self.life}"
        self.proposer = Proposer(number, self.everyone, wanted, round=self.proposer_record.round)
        self.learner = Learner(number, len(self.everyone))

    def receive(self, message: Message) -> None:
        """Let the agent that it is for have it; what follows waits in line."""
        effects: tuple[Effect, ...] = ()
        match message:
            case Prepare() | Accept():
                self.acceptor, effects = answer(self.acceptor, message)
            case Promise() | Refused():
                self.proposer, effects = hear(self.proposer, message)
            case Accepted():
                self.learner = learn(self.learner, message)
        self.effects.extend(effects)

    def begin(self) -> None:
        """The next ballot."""
        self.ballots += 1
        self.proposer, effects = begin(self.proposer)
        self.effects.extend(effects)

    def stored(self, effect: Store) -> None:
        """It is on disk now."""
        if isinstance(effect.record, AcceptorRecord):
            self.acceptor_record = effect.record
        else:
            self.proposer_record = effect.record


class _World:
    """One run. Not reusable."""

    def __init__(self, day: Day) -> None:
        self._day = day
        self._random = Random(f"run {day.seed}")
        self._now_us = self._sequence = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._nodes = {n: _Node(n, day.nodes) for n in range(1, day.nodes + 1)}
        self._accepted: dict[Proposal, set[int]] = {}
        self._chosen: set[str] = set()
        self._ballots = self._messages = self._crashed = 0
        self._first: tuple[int, int, int] | None = None

    def run(self) -> Outcome:
        """Play it."""
        complaint: str | None = None
        self._set_up()
        try:
            self._play()
        except _Broken as broken:
            complaint = str(broken)
        at_us, ballots, messages = self._first or (self._now_us, self._ballots, self._messages)
        chosen = min(self._chosen) if self._chosen else None
        return Outcome(complaint, chosen, ballots, messages, at_us, self._now_us, self._crashed)

    def _set_up(self) -> None:
        day = self._day
        for number, start_us in enumerate(day.starts_us, start=1):
            self._at(start_us, partial(self._propose, number, 1))
        for crash in day.crashes:
            self._at(crash.at_us, partial(self._crash, crash.node))
            self._at(crash.until_us, partial(self._rise, crash.node))
        for number in range(len(day.starts_us) + 1, day.nodes + 1):
            self._at(day.stormy_us + 1, partial(self._propose, number, 1))

    def _play(self) -> None:
        end_us = self._day.stormy_us + _CALM_US
        while self._queue and not self._all_know():
            self._now_us, _, event = heapq.heappop(self._queue)
            if self._ballots > self._day.ballots_max:
                return
            if self._now_us > end_us:
                raise _Broken("not all know the outcome though nothing is broken any more")
            event()

    def _all_know(self) -> bool:
        return all(node.up and node.learner.chosen for node in self._nodes.values())

    def _at(self, at_us: int, event: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (at_us, self._sequence, event))

    def _propose(self, number: int, life: int) -> None:
        """Begin a ballot unless the outcome is known; look again after a pause."""
        node = self._nodes[number]
        if not node.up or node.life != life or node.learner.chosen:
            return
        self._ballots += 1
        node.begin()
        pause_us = self._day.patience.pause_us(node.ballots, self._random)
        self._at(self._now_us + pause_us, partial(self._propose, number, life))
        self._carry_out(node)

    def _crash(self, number: int) -> None:
        node = self._nodes[number]
        self._crashed += node.up
        node.up = False

    def _rise(self, number: int) -> None:
        node = self._nodes[number]
        if not node.up:
            node.start()
            self._at(self._now_us + 1, partial(self._propose, number, node.life))

    def _carry_out(self, node: _Node) -> None:
        while node.effects and not node.storing:
            effect = node.effects[0]
            if isinstance(effect, Store) and self._day.disk_us:
                node.storing = True
                done_us = self._now_us + self._random.randint(1, self._day.disk_us)
                self._at(done_us, partial(self._stored, node, node.life))
                return
            node.effects.popleft()
            if isinstance(effect, Store):
                node.stored(effect)
            else:
                self._send(effect.message)

    def _stored(self, node: _Node, life: int) -> None:
        if not node.up or node.life != life:
            return
        node.storing = False
        effect = node.effects.popleft()
        assert isinstance(effect, Store)
        node.stored(effect)
        self._carry_out(node)

    def _send(self, message: Message) -> None:
        self._messages += 1
        if isinstance(message, Accepted):
            self._judge(message)
        stormy = self._now_us < self._day.stormy_us
        if stormy and self._random.random() < self._day.loss:
            return
        copies = 2 if stormy and self._random.random() < self._day.doubling else 1
        for _ in range(copies):
            delay_us = self._random.randint(*self._day.latency_us)
            if stormy and self._random.random() < self._day.late:
                delay_us *= self._random.randint(2, 20)
            self._at(self._now_us + delay_us, partial(self._deliver, message))

    def _deliver(self, message: Message) -> None:
        node = self._nodes[message.to]
        if not node.up:
            return
        node.receive(message)
        if node.learner.chosen is not None:
            if node.learner.chosen not in self._chosen:
                raise _Broken(f"node {node.number} learned what was not chosen")
            self._first = self._first or (self._now_us, self._ballots, self._messages)
        self._carry_out(node)

    def _judge(self, message: Accepted) -> None:
        """An acceptance that somebody may hear of counts, whatever becomes of the message."""
        votes = self._accepted.setdefault(message.proposal, set())
        votes.add(message.sender)
        if len(votes) < majority(self._day.nodes):
            return
        value = message.proposal.value
        if not value.startswith("value "):
            raise _Broken(f"{value!r} was chosen and proposed by nobody")
        self._chosen.add(value)
        if len(self._chosen) > 1:
            raise _Broken(f"{sorted(self._chosen)} are both chosen")
