"""The clients of a simulated cluster: they ask, are sent elsewhere, lose patience, and remember."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Protocol

from month5_kvstore.simulation.history import Answer, Call
from month5_kvstore.simulation.plan import SECOND_US, Plan, PlannedCall

_RETRY_US = 40_000
_PATIENCE_US = 2 * SECOND_US
_PROBE = 1_000_000


class Stage(Protocol):
    """What clients need of the world."""

    plan: Plan
    now_us: int

    def at(self, at_us: int, event: Callable[[], None]) -> None:
        """Let something happen at a time."""
        ...

    def note(self, what: str, node: int, other: int, text: str) -> None:
        """Put an event into the trace."""
        ...

    def begin_call(self, call: PlannedCall, node: int, context: int) -> None:
        """Ask a node. context: unique to this attempt."""
        ...


class Clients:
    """All calls of a run. A write that may have been carried out is never asked for again."""

    def __init__(self, world: Stage, random: Random) -> None:
        self.probe_answered = False
        self._world = world
        self._random = random
        self._begun: dict[int, tuple[PlannedCall, int]] = {}
        self._calls: list[Call] = []
        self._context = 0

    @property
    def answers(self) -> int:
        """How many calls got an answer."""
        return len(self._calls)

    def call(self, call: PlannedCall, node: int) -> None:
        """Ask `node`, for the first time or again."""
        self._begun.setdefault(call.number, (call, self._world.now_us))
        self._context += 1
        self._world.begin_call(call, node, self._context)

    def probe(self, at_us: int) -> None:
        """From `at_us` on, write until it works: a cluster without faults must do that."""
        probe = PlannedCall(_PROBE, at_us, self._world.plan.voters[0], "probe", "put", (1,))
        self._world.at(at_us, partial(self.call, probe, probe.node))

    def answered(self, call: PlannedCall, answer: Answer) -> None:
        """A call has its answer; a second one counts for nothing."""
        begun = self._begun.pop(call.number, None)
        if begun is None:
            return
        now_us = self._world.now_us
        text = f"{call.verb} {call.key} {call.arguments} = {answer}"
        self._world.note("answers", 0, 0, f"#{call.number} {text}")
        if call.number == _PROBE:
            self.probe_answered = True
            return
        self._calls.append(
            Call(call.number, call.key, call.verb, call.arguments, begun[1], now_us, answer)
        )

    def turned_away(self, call: PlannedCall, leader: int) -> None:
        """Certainly not carried out: ask again, elsewhere, while there is patience."""
        begun = self._begun.get(call.number)
        if begun is None:
            return
        now_us = self._world.now_us
        if now_us - begun[1] > _PATIENCE_US and call.number != _PROBE:
            del self._begun[call.number]
            return
        node = leader or self._random.choice(self._world.plan.nodes)
        self._world.at(now_us + _RETRY_US, partial(self.call, call, node))

    def abandoned(self, call: PlannedCall) -> None:
        """Nobody will answer. A probe may be asked again; a real write's outcome is unknown."""
        if call.number == _PROBE:
            self.turned_away(call, 0)

    def history(self) -> tuple[Call, ...]:
        """All calls; writes without an answer may have happened, reads without one say nothing."""
        unknown = [
            Call(call.number, call.key, call.verb, call.arguments, begun_us, None, None)
            for call, begun_us in self._begun.values()
            if call.verb != "get" and call.number != _PROBE
        ]
        return tuple(sorted([*self._calls, *unknown], key=lambda call: call.called_at))
