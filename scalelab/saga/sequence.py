"""Write the table of a plain sequential saga: do 1, do 2, ... and undo in reverse order. Pure.

    doing_1 --done--> doing_2 --done--> ... --done--> done
       |  \\              |
       |   refused        | refused: undo what is done      deadline: unknown, so undo this one too
       v                  v
    gave_up <-- undoing_1 <-- undoing_2 ...

A time-out means "unknown": the action may still happen, so its undo is ordered as well and the
participant answers it whether or not the action arrived (see participant.py). A deadline while
undoing orders the same undo again: compensation is repeated until it is confirmed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scalelab.saga.definition import DEADLINE, Kind, Rule, SagaDefinition, Step


@dataclass(frozen=True, slots=True)
class Action:
    """One action by one participant: the effects that order it and the facts that answer."""

    do: str
    done: str
    refused: str
    undo: str
    undone: str


def sequence(name: str, actions: Sequence[Action], *, deadline_s: float) -> SagaDefinition:
    """The definition that carries out `actions` in order. Ends: "done" or "gave_up"."""
    if not actions:
        raise ValueError(f"saga {name} has no actions")
    steps: dict[str, Step] = {}
    for index, action in enumerate(actions):
        steps[f"doing_{index}"] = Step(
            {
                action.done: _do(actions, index + 1),
                action.refused: _undo(actions, index - 1),
                DEADLINE: _undo(actions, index),
            },
            deadline_s=deadline_s,
        )
        steps[f"undoing_{index}"] = Step(
            {action.undone: _undo(actions, index - 1), DEADLINE: _undo(actions, index)},
            kind=Kind.COMPENSATING,
            deadline_s=deadline_s,
        )
    steps["done"] = Step(kind=Kind.END)
    steps["gave_up"] = Step(kind=Kind.END)
    return SagaDefinition(name, "doing_0", steps, (actions[0].do,))


def _do(actions: Sequence[Action], index: int) -> Rule:
    if index == len(actions):
        return Rule("done")
    return Rule(f"doing_{index}", (actions[index].do,))


def _undo(actions: Sequence[Action], index: int) -> Rule:
    if index < 0:
        return Rule("gave_up")
    return Rule(f"undoing_{index}", (actions[index].undo,))
