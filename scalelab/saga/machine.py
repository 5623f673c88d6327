"""The saga machine: (definition, state, event) -> (state, effects). Pure.

Theory of operation
    A fact is true once it has happened, so the state keeps the set of facts it has been told.
    A new fact is added to the set; then, as long as the present step has a rule for a fact in
    the set that this saga has not used yet, the rule is taken (in the order of the step's
    table). A fact that arrives too early therefore waits, one that arrives too late changes
    nothing, and a duplicate is not even news. What the saga ends as does not depend on the order
    in which facts without a race between them arrive.

    DEADLINE is about the present step only: it is taken if the step has a rule, else dropped.

Invariants (tests cite them)
    I1  An event that changes nothing returns the same state object and no effects.
    I2  A fact is used at most once in the life of a saga.
    I3  An ended saga never moves and orders nothing: its state is the tombstone.
    I4  Once compensating, a saga stays so until it ends.
    I5  version grows by one with every rule taken, so (version, effect) names an effect for ever.

The driver stores the state and carries the effects out in one transaction (outbox). Duplicated
effects then come only from the transport, and their key makes them harmless.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from scalelab.errors import CorruptData, InvalidInput
from scalelab.saga.definition import DEADLINE, Kind, Rule, SagaDefinition


@dataclass(frozen=True, slots=True)
class SagaState:
    """Where one saga stands. version: rules taken. seen: facts told, used: facts acted on."""

    step: str
    version: int = 0
    compensating: bool = False
    ended: bool = False
    seen: frozenset[str] = frozenset()
    used: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON column; `from_json` reads them back."""
        return {
            "step": self.step,
            "version": self.version,
            "compensating": self.compensating,
            "ended": self.ended,
            "seen": sorted(self.seen),
            "used": sorted(self.used),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SagaState:
        """The state stored by `to_json`; CorruptData if a member is missing or of another type."""
        try:
            return cls(
                step=str(value["step"]),
                version=int(value["version"]),
                compensating=bool(value["compensating"]),
                ended=bool(value["ended"]),
                seen=frozenset(cast("list[str]", value["seen"])),
                used=frozenset(cast("list[str]", value["used"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptData(f"this is no saga state: {value!r}") from error


@dataclass(frozen=True, slots=True)
class Effect:
    """Something to carry out. step: entered with it. version: of the rule that orders it."""

    name: str
    step: str
    version: int

    @property
    def key(self) -> str:
        """Unique within the saga and the same on every replay: an idempotency key."""
        return f"{self.version}:{self.name}"


def begin(definition: SagaDefinition) -> tuple[SagaState, tuple[Effect, ...]]:
    """A new saga at its start, and the effects to begin with (version 0)."""
    state = SagaState(definition.start)
    return state, tuple(Effect(name, state.step, 0) for name in definition.start_effects)


def advance(
    definition: SagaDefinition, state: SagaState, event: str
) -> tuple[SagaState, tuple[Effect, ...]]:
    """Tell the saga one event; returns where it stands then and what to carry out.

    `event` is a fact of the definition or DEADLINE. Duplicates, late and early events are
    absorbed. Raises InvalidInput code `unknown_saga_event` for a name no step waits for, and
    CorruptData if the state stands in a step the definition does not have.
    """
    if state.step not in definition.steps:
        raise CorruptData(f"saga {definition.name} has no step {state.step!r}")
    if event != DEADLINE and event not in definition.facts:
        raise InvalidInput(
            f"saga {definition.name} knows no event {event!r}", code="unknown_saga_event"
        )
    if state.ended or event in state.seen:
        return state, ()
    if event == DEADLINE:
        rule = definition.steps[state.step].on.get(DEADLINE)
        if rule is None:
            return state, ()
        state, effects = _take(definition, state, rule)
    else:
        state, effects = replace(state, seen=state.seen | {event}), ()
    return _settle(definition, state, effects)


def _settle(
    definition: SagaDefinition, state: SagaState, effects: tuple[Effect, ...]
) -> tuple[SagaState, tuple[Effect, ...]]:
    """Take rules for known facts until none applies. Ends: every round uses up one fact (I2)."""
    while True:
        rules = definition.steps[state.step].on
        fact = next((f for f in rules if f in state.seen and f not in state.used), None)
        if fact is None:
            return state, effects
        state, ordered = _take(definition, replace(state, used=state.used | {fact}), rules[fact])
        effects += ordered


def _take(
    definition: SagaDefinition, state: SagaState, rule: Rule
) -> tuple[SagaState, tuple[Effect, ...]]:
    kind = definition.steps[rule.to].kind
    moved = replace(
        state,
        step=rule.to,
        version=state.version + 1,
        compensating=state.compensating or kind is Kind.COMPENSATING,
        ended=kind is Kind.END,
    )
    return moved, tuple(Effect(name, rule.to, moved.version) for name in rule.effects)
