"""Trap: compensation overtakes the action. Every delivery order of a saga, by exhaustion.

The world is the saga, its participants and all messages ever sent. Any of them may be delivered
next, any number of times, early or late; the deadline may fire at any moment, up to twice. The
search visits every reachable world once and checks it, so a failure is a real schedule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from scalelab.saga import (
    DEADLINE,
    Action,
    Request,
    SagaDefinition,
    SagaState,
    Stand,
    Work,
    advance,
    begin,
    decide,
    sequence,
)

WORDS = ("do", "done", "refused", "undo", "undone")
ANSWERS = {Stand.DONE: "done", Stand.REFUSED: "refused", Stand.UNDONE: "undone"}


@dataclass(frozen=True)
class World:
    """sent: every message ever sent; delivering one does not remove it (duplicates)."""

    saga: SagaState
    stands: tuple[Stand, ...]
    carried_out: tuple[int, ...]
    taken_back: tuple[int, ...]
    sent: frozenset[str]
    deadlines: int


def definition_of(count: int) -> SagaDefinition:
    actions = [Action(*(f"{word}:{n}" for word in WORDS)) for n in range(count)]
    return sequence("exhaustive", actions, deadline_s=1.0)


def bump(counts: tuple[int, ...], index: int) -> tuple[int, ...]:
    return (*counts[:index], counts[index] + 1, *counts[index + 1 :])


def deliver_to_participant(world: World, message: str, able: int) -> World:
    verb, number = message.split(":")
    index = int(number)
    verdict = decide(world.stands[index], Request(verb), possible=index < able)
    stands = (*world.stands[:index], verdict.stand, *world.stands[index + 1 :])
    carried, back = world.carried_out, world.taken_back
    if verdict.work is Work.CARRY_OUT:
        carried = bump(carried, index)
    if verdict.work is Work.TAKE_BACK:
        back = bump(back, index)
    answer = f"{ANSWERS[verdict.answer]}:{index}"
    sent = world.sent | {answer}
    return replace(world, stands=stands, carried_out=carried, taken_back=back, sent=sent)


def tell_saga(definition: SagaDefinition, world: World, event: str) -> World:
    saga, effects = advance(definition, world.saga, event)
    sent = world.sent | {effect.name for effect in effects}
    return replace(world, saga=saga, sent=sent)


def next_worlds(definition: SagaDefinition, world: World, able: int) -> Iterator[World]:
    for message in world.sent:
        if message.startswith(("do:", "undo:")):
            yield deliver_to_participant(world, message, able)
        else:
            yield tell_saga(definition, world, message)
    if world.deadlines:
        yield tell_saga(definition, replace(world, deadlines=world.deadlines - 1), DEADLINE)


def check_safety(world: World) -> None:
    """In every world: at most once, never undone without being done, and never more at the end."""
    assert all(n <= 1 for n in world.carried_out)
    assert all(b <= c for b, c in zip(world.taken_back, world.carried_out, strict=True))
    if world.saga.step == "done":
        assert world.taken_back == (0,) * len(world.taken_back)
        assert world.carried_out == (1,) * len(world.carried_out)
    if world.saga.step == "gave_up":
        # Nothing is left standing, and no message still under way can change that (P2).
        assert world.carried_out == world.taken_back


@pytest.mark.parametrize("able", [4, 3, 2, 0], ids=lambda able: f"{able}_of_4_possible")
def test_every_delivery_order_of_a_four_step_saga_ends_consistent(able: int) -> None:
    """All orders, duplicates and a deadline at any moment: all done, or all taken back."""
    definition = definition_of(4)
    saga, effects = begin(definition)
    nothing = (0,) * 4
    sent = frozenset(effect.name for effect in effects)
    start = World(saga, (Stand.UNTOUCHED,) * 4, nothing, nothing, sent, deadlines=2)
    seen = {start}
    frontier = [start]
    ends: set[str] = set()
    while frontier:
        world = frontier.pop()
        check_safety(world)
        following = set(next_worlds(definition, world, able)) - {world}
        if not following:
            # Everything was delivered and changes nothing any more: the saga must be over.
            assert world.saga.ended
            ends.add(world.saga.step)
        following -= seen
        seen.update(following)
        frontier.extend(following)
    assert ends == ({"done", "gave_up"} if able == 4 else {"gave_up"})
    assert len(seen) > 20
