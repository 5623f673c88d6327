"""The order saga under every order of delivery, with duplicates, late replies and time running out.

The last test explores a small world to its end: the saga, a payment service and an inventory that
keep their promises, and a network that delivers messages in any order and some of them twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from month3_messaging.orders.saga import CANCELLED_SETTLED, FINAL, Fact, Status, order_saga
from scalelab.saga import DEADLINE, SagaState, advance, begin

SAGA = order_saga(600.0)
EVENTS: tuple[str, ...] = (*Fact, DEADLINE)


def run(events: tuple[str, ...]) -> tuple[SagaState, list[str]]:
    state, _ = begin(SAGA)
    entered: list[str] = []
    for event in events:
        state, effects = advance(SAGA, state, event)
        entered.extend(effect.name for effect in effects)
    return state, entered


def every_delivery() -> Iterator[tuple[str, ...]]:
    """Each subset of the events in each order (1,957 deliveries)."""
    for size in range(len(EVENTS) + 1):
        yield from itertools.permutations(EVENTS, size)


@pytest.mark.parametrize(
    ("events", "entered", "ended"),
    [
        ((Fact.CAPTURED, Fact.RESERVED), ["paid", "stock_reserved", "confirmed"], True),
        ((Fact.RESERVED, Fact.CAPTURED), ["paid", "stock_reserved", "confirmed"], True),
        ((Fact.PAYMENT_FAILED,), ["payment_failed"], True),
        ((Fact.CAPTURED, Fact.REJECTED, Fact.REFUNDED), ["paid", "cancelled", "refunded"], True),
        ((Fact.CAPTURED, DEADLINE), ["paid"], False),
        ((DEADLINE,), ["cancelled"], False),
        ((DEADLINE, Fact.CAPTURED), ["cancelled"], False),
        ((DEADLINE, Fact.CAPTURED, Fact.REFUNDED), ["cancelled", "refunded"], True),
        ((DEADLINE, Fact.REFUNDED, Fact.CAPTURED), ["cancelled", "refunded"], True),
        ((DEADLINE, Fact.PAYMENT_FAILED), ["cancelled"], True),
    ],
)
def test_each_path_enters_its_statuses_and_ends(
    events: tuple[str, ...], entered: list[str], ended: bool
) -> None:
    """The branches of the table, one by one."""
    state, was_entered = run(events)
    assert was_entered == entered
    assert state.ended is ended


def test_every_order_of_delivery_keeps_the_invariants() -> None:
    """O1 to O3 for every permutation of every subset of the events, possible or not."""
    for delivery in every_delivery():
        state, entered = run(delivery)
        assert len(set(entered)) == len(entered), f"O1 {delivery}"
        if Status.CONFIRMED in entered:
            assert {Fact.CAPTURED, Fact.RESERVED} <= state.seen, f"O2 {delivery}"
            assert Status.CANCELLED not in entered, f"O2 {delivery}"
        if Fact.CAPTURED in state.used and state.step != Status.PAID:
            assert {Status.CONFIRMED, Status.CANCELLED} & set(entered), f"O3 {delivery}"
        if state.ended:
            assert entered[-1] in FINAL, delivery


def test_duplicates_anywhere_change_nothing() -> None:
    """A delivery with every prefix repeated enters the same statuses as the plain one."""
    for delivery in every_delivery():
        facts = tuple(event for event in delivery if event != DEADLINE)
        repeated = tuple(f for end in range(1, len(facts) + 1) for f in facts[:end])
        assert run(repeated) == run(facts), delivery


@dataclass(frozen=True)
class World:
    """Everything that can differ: three parties and the messages on their way.

    mail: (to, text) pairs not delivered yet. payment: none, captured, failed, refunded or
    tombstone. stock: none, reserved, rejected or released. spare: duplicates left to deliver.
    """

    state: SagaState
    payment: str = "none"
    stock: str = "none"
    mail: frozenset[tuple[str, str]] = frozenset({("payments", "placed")})
    spare: int = 1
    can_time_out: bool = True


def say(world: World, *messages: tuple[str, str]) -> World:
    return replace(world, mail=world.mail | set(messages))


def orders_learns(world: World, event: str) -> World:
    state, effects = advance(SAGA, world.state, event)
    world = replace(world, state=state)
    for effect in effects:
        if effect.name == Status.PAID:
            world = say(world, ("inventory", "paid"))
        if effect.name == Status.CANCELLED:
            world = say(world, ("inventory", "cancelled"), ("payments", "cancelled"))
    return world


def payments_reacts(world: World, text: str) -> Iterator[World]:
    """Captures or fails on placed; on cancelled refunds, or says that nothing was captured."""
    if text == "placed" and world.payment == "none":
        yield say(replace(world, payment="captured"), ("orders", Fact.CAPTURED))
        yield say(replace(world, payment="failed"), ("orders", Fact.PAYMENT_FAILED))
    elif text == "cancelled" and world.payment == "captured":
        yield say(replace(world, payment="refunded"), ("orders", Fact.REFUNDED))
    elif text == "cancelled" and world.payment == "none":
        yield say(replace(world, payment="tombstone"), ("orders", Fact.PAYMENT_FAILED))
    else:
        yield world


def inventory_reacts(world: World, text: str) -> Iterator[World]:
    """Reserves or rejects on paid; on cancelled gives back and refuses what comes later."""
    if text == "paid" and world.stock == "none":
        yield say(replace(world, stock="reserved"), ("orders", Fact.RESERVED))
        yield say(replace(world, stock="rejected"), ("orders", Fact.REJECTED))
    elif text == "cancelled" and world.stock in ("none", "reserved"):
        yield replace(world, stock="released")
    else:
        yield world


def successors(world: World) -> Iterator[World]:
    if world.can_time_out:
        yield orders_learns(replace(world, can_time_out=False), DEADLINE)
    for message in world.mail:
        to, text = message
        after = [replace(world, mail=world.mail - {message})]
        if world.spare:
            after.append(replace(world, spare=world.spare - 1))
        for delivered in after:
            if to == "orders":
                yield orders_learns(delivered, text)
            else:
                react = payments_reacts if to == "payments" else inventory_reacts
                yield from react(delivered, text)


def test_every_world_that_keeps_its_promises_ends_with_the_money_in_the_right_place() -> None:
    """O4: all reachable worlds, to exhaustion; when no mail is left, the saga has ended."""
    frontier = [World(begin(SAGA)[0], spare=spare) for spare in range(3)]
    seen = set(frontier)
    quiet = 0
    while frontier:
        world = frontier.pop()
        if not world.mail:
            quiet += 1
            kept = world.payment == "captured"
            assert world.state.ended, world
            assert kept is (world.state.step == Status.CONFIRMED), world
            assert (world.stock == "reserved") is (world.state.step == Status.CONFIRMED), world
            if world.state.step == CANCELLED_SETTLED:
                assert world.payment in ("tombstone", "failed"), world
        for onward in successors(world):
            if onward not in seen:
                seen.add(onward)
                frontier.append(onward)
    assert quiet > 10
