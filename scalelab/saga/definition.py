"""A saga as a literal table: step -> fact -> rule. Checked when it is built, pure data after.

Theory of operation
    A saga is one long piece of work over several services without a common transaction. It stands
    in one *step* at a time and waits there for *facts* (events in the past tense, such as
    "captured"). A rule says to which step a fact leads and which *effects* to order on the way.
    Forward steps make progress, compensating steps undo it, an end step is for ever.

        SagaDefinition(
            name="trip",
            start="booking_hotel",
            start_effects=("book_hotel",),
            steps={
                "booking_hotel": Step(
                    on={
                        "hotel_booked": Rule("booking_flight", ("book_flight",)),
                        "hotel_refused": Rule("gave_up"),
                        DEADLINE: Rule("undoing_hotel", ("cancel_hotel",)),
                    },
                    deadline_s=30.0,
                ),
                ...
                "undoing_hotel": Step(
                    kind=Kind.COMPENSATING, on={"hotel_cancelled": Rule("gave_up")}
                ),
                "gave_up": Step(kind=Kind.END),
            },
        )

Rules of a definition (checked at construction; ValueError names the step)
    D1  Every rule leads to a step of the table.
    D2  An end step has no rules.
    D3  A compensating step leads only to compensating or end steps: no way back to hope.
    D4  Every step can be reached from the start, and from every step an end can be reached.
    D5  A step with a deadline has a rule for it.

Source: Garcia-Molina and Salem 1987, "Sagas"; differs in: steps are carried out by other services
that answer by events, at least once and in any order, so a time-out means "unknown", not "failed".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

DEADLINE = "deadline"
"""The one event that is not a fact: time has run out in the present step. Never remembered."""


class Kind(Enum):
    """What a step is for."""

    FORWARD = "forward"
    COMPENSATING = "compensating"
    END = "end"


@dataclass(frozen=True, slots=True)
class Rule:
    """Go to step `to` and order `effects`, in this order. `to` may be the same step."""

    to: str
    effects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the table. deadline_s: seconds after entry at which DEADLINE is due, or None."""

    on: Mapping[str, Rule] = field(default_factory=dict[str, Rule])
    kind: Kind = Kind.FORWARD
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class SagaDefinition:
    """The whole table. start_effects: ordered when the saga begins."""

    name: str
    start: str
    steps: Mapping[str, Step]
    start_effects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", MappingProxyType(dict(self.steps)))
        if self.start not in self.steps:
            raise ValueError(f"saga {self.name}: the start {self.start!r} is not a step")
        for name, step in self.steps.items():
            self._check_step(name, step)
        self._check_paths()

    @property
    def facts(self) -> frozenset[str]:
        """All facts that any step waits for; DEADLINE is not one of them."""
        return frozenset(fact for step in self.steps.values() for fact in step.on) - {DEADLINE}

    def deadline_s(self, step: str) -> float | None:
        """Seconds a saga may stand in `step`, None for as long as it takes."""
        return self.steps[step].deadline_s

    def _check_step(self, name: str, step: Step) -> None:
        where = f"saga {self.name}, step {name}"
        if step.kind is Kind.END and step.on:
            raise ValueError(f"{where}: an end step has no rules")
        if step.deadline_s is not None and DEADLINE not in step.on:
            raise ValueError(f"{where}: a deadline needs a rule for it")
        for fact, rule in step.on.items():
            if rule.to not in self.steps:
                raise ValueError(f"{where}: {fact} leads to {rule.to!r}, which is not a step")
            if step.kind is Kind.COMPENSATING and self.steps[rule.to].kind is Kind.FORWARD:
                raise ValueError(f"{where}: {fact} leads from compensating back to {rule.to!r}")

    def _check_paths(self) -> None:
        unreached = self.steps.keys() - self._closure({self.start}, forwards=True)
        if unreached:
            raise ValueError(f"saga {self.name}: no way leads to {sorted(unreached)}")
        ends = {name for name, step in self.steps.items() if step.kind is Kind.END}
        endless = self.steps.keys() - self._closure(ends, forwards=False)
        if endless:
            raise ValueError(f"saga {self.name}: no way leads from {sorted(endless)} to an end")

    def _closure(self, seeds: set[str], *, forwards: bool) -> set[str]:
        edges = {(name, rule.to) for name, step in self.steps.items() for rule in step.on.values()}
        if not forwards:
            edges = {(to, name) for name, to in edges}
        found = set(seeds)
        frontier = set(seeds)
        while frontier:
            frontier = {to for name, to in edges if name in frontier} - found
            found |= frontier
        return found
