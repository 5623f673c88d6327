"""Every order of events of a small instance, breadth first: what no seed can promise.

The network is the set of all messages ever sent. Each may be delivered at any time, again and
again, or never: loss, repetition, delay and reordering are all in that. Any agent may crash at any
point between two effects and comes back with what it last stored; a proposer then has another
value to propose, as a new client would give it. A state is visited once, so the search ends, and
the first violation found is one of the shortest.

Not branched, since nothing new would come of it: a crash with messages unsent (the same as their
loss), unless something was still to be stored after a message had gone out.

Judged in each state, from the acceptances that were sent: at most one value is chosen (a majority
accepted one ballot), and it is one that somebody proposed (section 1 of the paper).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

from month5_kvstore.paxos.acceptor import Acceptor, answer
from month5_kvstore.paxos.messages import (
    Accept,
    Accepted,
    AcceptorRecord,
    Effect,
    Message,
    Prepare,
    Promise,
    ProposerRecord,
    Refused,
    Store,
)
from month5_kvstore.paxos.proposer import Proposer, begin, hear
from scalelab.errors import InvalidInput

_Agent = Acceptor | Proposer
_Record = AcceptorRecord | ProposerRecord
_Slot = tuple[_Agent, _Record]
"""An agent, and what it has on disk."""

_World = tuple[tuple[int, ...], int, int, int]
"""Numbers of the agents' slots; begins left; restarts of proposers left; messages sent, as bits."""

_Event = str | int
"""What happened, in words; or the number of the message that was delivered."""

_FIRST_PROPOSER = 100


@dataclass(frozen=True, slots=True)
class Instance:
    """How small. begins: ballots in all, shared by all proposers. restarts: crashes of proposers
    (those of acceptors are not bounded). refusals: whether these are sent, for they only hurry."""

    acceptors: int = 3
    proposers: int = 2
    begins: int = 2
    restarts: int = 0
    refusals: bool = False

    def __post_init__(self) -> None:
        """Raises InvalidInput for an instance in which nothing can happen."""
        if min(self.acceptors, self.proposers, self.begins) < 1 or self.restarts < 0:
            raise InvalidInput("an instance needs acceptors, proposers and ballots", field="begins")


@dataclass(frozen=True, slots=True)
class Explored:
    """states: different ones visited. chosen: the values chosen in one or another. complaint: the
    first violation, None if there is none in all states. story: the events that lead to it."""

    states: int
    chosen: frozenset[str]
    complaint: str | None
    story: tuple[str, ...]


def explore(instance: Instance, *, states_max: int = 2_000_000) -> Explored:
    """Visit all states of the instance. Raises InvalidInput if there are more than `states_max`."""
    return _Search(instance).run(states_max)


class _Search:
    """Slots and messages are numbered when first met, so that a world is a few integers."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._slots: list[_Slot] = []
        self._slot_numbers: dict[_Slot, int] = {}
        self._messages: list[Message] = []
        self._receivers: list[int] = []
        self._bits: dict[Message, int] = {}
        self._places: dict[int, int] = {}
        self._steps: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}
        self._complaints: dict[int, str | None] = {0: None}
        self._acceptances = 0
        self._chosen: set[str] = set()

    def run(self, states_max: int) -> Explored:
        """The search itself."""
        first = self._first()
        came_from: dict[_World, tuple[_World, _Event] | None] = {first: None}
        queue = deque([first])
        while queue:
            world = queue.popleft()
            for what, after in self._after(world):
                if after in came_from:
                    continue
                came_from[after] = (world, what)
                if (complaint := self._complaint(after[3])) is not None:
                    story = self._story(came_from, after)
                    return Explored(len(came_from), frozenset(self._chosen), complaint, story)
                queue.append(after)
            if len(came_from) > states_max:
                raise InvalidInput(f"more than {states_max} states", field="instance")
        return Explored(len(came_from), frozenset(self._chosen), None, ())

    def _first(self) -> _World:
        acceptors = tuple(range(1, self._instance.acceptors + 1))
        proposers = [_FIRST_PROPOSER + n for n in range(1, self._instance.proposers + 1)]
        slots: list[_Slot] = [(Acceptor(number, (0,)), AcceptorRecord()) for number in acceptors]
        slots += [(Proposer(n, acceptors, f"{n}"), ProposerRecord()) for n in proposers]
        self._places = {agent.id: place for place, (agent, _) in enumerate(slots)}
        numbers = tuple(self._number(slot) for slot in slots)
        return numbers, self._instance.begins, self._instance.restarts, 0

    def _after(self, world: _World) -> Iterator[tuple[_Event, _World]]:
        """Each event that changes something in a world, and the world after it."""
        numbers, begins, restarts, sent = world
        for place, number in enumerate(numbers):
            agent, record = self._slots[number]
            if isinstance(agent, Acceptor):
                back = self._number((_restarted(agent, record), record))
                if back != number:
                    yield f"{agent.id} restarts", self._with(world, place, back)
                continue
            if restarts:
                fresh = self._number((_restarted(agent, record), record))
                after = self._with(world, place, fresh)
                yield f"{agent.id} restarts", (after[0], begins, restarts - 1, sent)
            if begins:
                for slot, bits in self._carried_out((agent, record), *begin(agent)):
                    after = self._with(world, place, slot, bits)
                    yield f"{agent.id} begins", (after[0], begins - 1, restarts, after[3])
        waiting = sent & ~self._acceptances
        while waiting:
            index = waiting.bit_length() - 1
            waiting ^= 1 << index
            place = self._receivers[index]
            for slot, bits in self._delivered(numbers[place], index):
                if slot != numbers[place] or bits & ~sent:
                    yield index, self._with(world, place, slot, bits)

    def _with(self, world: _World, place: int, slot: int, bits: int = 0) -> _World:
        numbers, begins, restarts, sent = world
        if numbers[place] != slot:
            numbers = (*numbers[:place], slot, *numbers[place + 1 :])
        return numbers, begins, restarts, sent | bits

    def _delivered(self, number: int, index: int) -> tuple[tuple[int, int], ...]:
        """What may become of a slot and the network when it gets a message; remembered."""
        known = self._steps.get((number, index))
        if known is None:
            known = self._steps[number, index] = tuple(self._receive(number, index))
        return known

    def _receive(self, number: int, index: int) -> Iterator[tuple[int, int]]:
        slot, message = self._slots[number], self._messages[index]
        agent = slot[0]
        match message:
            case Prepare() | Accept() if isinstance(agent, Acceptor):
                yield from self._carried_out(slot, *answer(agent, message))
            case Promise() | Refused() if isinstance(agent, Proposer):
                yield from self._carried_out(slot, *hear(agent, message))
            case _:
                yield number, 0

    def _carried_out(
        self, slot: _Slot, agent: _Agent, effects: tuple[Effect, ...]
    ) -> Iterator[tuple[int, int]]:
        """All effects in order; and, where a Store comes after a Send, a crash before it."""
        record, bits = slot[1], 0
        for effect in effects:
            if isinstance(effect, Store):
                if bits:
                    yield self._number((_restarted(slot[0], record), record)), bits
                record = effect.record
            elif not isinstance(effect.message, Refused) or self._instance.refusals:
                bits |= self._bit(effect.message)
        yield self._number((agent, record)), bits

    def _number(self, slot: _Slot) -> int:
        number = self._slot_numbers.setdefault(slot, len(self._slots))
        if number == len(self._slots):
            self._slots.append(slot)
        return number

    def _bit(self, message: Message) -> int:
        bit = self._bits.get(message)
        if bit is None:
            bit = self._bits[message] = 1 << len(self._messages)
            self._messages.append(message)
            self._receivers.append(self._places.get(message.to, 0))
            if isinstance(message, Accepted):
                self._acceptances |= bit
        return bit

    def _complaint(self, sent: int) -> str | None:
        """Judge the acceptances among the messages sent; remembered."""
        accepted = sent & self._acceptances
        if accepted not in self._complaints:
            self._complaints[accepted] = self._judge(accepted)
        return self._complaints[accepted]

    def _judge(self, accepted: int) -> str | None:
        proposals = Counter(
            message.proposal
            for message in self._messages
            if isinstance(message, Accepted) and self._bits[message] & accepted
        )
        needed = self._instance.acceptors // 2 + 1
        chosen = {proposal.value for proposal, votes in proposals.items() if votes >= needed}
        self._chosen |= chosen
        if len(chosen) > 1:
            return f"{sorted(chosen)} are both chosen"
        if any(not value.startswith(str(_FIRST_PROPOSER)[0]) for value in chosen):
            return f"{sorted(chosen)} was proposed by nobody"
        return None

    def _story(
        self, came_from: dict[_World, tuple[_World, _Event] | None], world: _World
    ) -> tuple[str, ...]:
        lines: list[str] = []
        while (step := came_from[world]) is not None:
            world, what = step
            lines.append(what if isinstance(what, str) else str(self._messages[what]))
        return tuple(reversed(lines))


def _of_acceptor(record: _Record) -> AcceptorRecord:
    return record if isinstance(record, AcceptorRecord) else AcceptorRecord()


def _restarted(agent: _Agent, record: _Record) -> _Agent:
    """As it comes back from disk; a proposer with the value of another client."""
    if isinstance(agent, Acceptor):
        return Acceptor(agent.id, agent.learners, _of_acceptor(record))
    used = record.round if isinstance(record, ProposerRecord) else 0
    return Proposer(agent.id, agent.acceptors, f"{agent.wanted}'", round=used)
