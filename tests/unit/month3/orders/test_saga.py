"""The order saga under every order of delivery, with duplicates and late replies."""

from __future__ import annotations

import itertools

import pytest

from month3_messaging.orders.saga import (
    ANNOUNCED,
    Fact,
    OrderSaga,
    Status,
    has_ended,
    learn,
)


def run(facts: tuple[Fact, ...]) -> tuple[OrderSaga, list[Status]]:
    saga = OrderSaga()
    entered: list[Status] = []
    for fact in facts:
        advance = learn(saga, fact)
        assert saga.facts <= advance.saga.facts, "I5: facts never shrink"
        saga = advance.saga
        entered.extend(advance.entered)
    return saga, entered


def every_delivery() -> list[tuple[Fact, ...]]:
    """Each subset of the facts in each order (1,957 deliveries)."""
    return [
        delivery for size in range(len(Fact) + 1) for delivery in itertools.permutations(Fact, size)
    ]


def test_the_happy_path_enters_each_status_in_turn() -> None:
    """captured, reserved: paid, stock_reserved, confirmed, and the end."""
    saga, entered = run((Fact.CAPTURED, Fact.RESERVED))
    assert entered == [Status.PAID, Status.STOCK_RESERVED, Status.CONFIRMED]
    assert has_ended(saga)


@pytest.mark.parametrize(
    ("facts", "entered", "ended"),
    [
        ((Fact.PAYMENT_FAILED,), [Status.PAYMENT_FAILED], True),
        ((Fact.TIMED_OUT,), [Status.CANCELLED], False),
        ((Fact.TIMED_OUT, Fact.PAYMENT_FAILED), [Status.CANCELLED], True),
        ((Fact.TIMED_OUT, Fact.CAPTURED), [Status.CANCELLED], False),
        (
            (Fact.TIMED_OUT, Fact.CAPTURED, Fact.REFUNDED),
            [Status.CANCELLED, Status.REFUNDED],
            True,
        ),
        (
            (Fact.CAPTURED, Fact.REJECTED, Fact.REFUNDED),
            [Status.PAID, Status.CANCELLED, Status.REFUNDED],
            True,
        ),
        ((Fact.CAPTURED, Fact.TIMED_OUT), [Status.PAID], False),
        (
            (Fact.TIMED_OUT, Fact.PAYMENT_FAILED, Fact.REFUNDED),
            [Status.CANCELLED, Status.REFUNDED],
            True,
        ),
        ((Fact.PAYMENT_FAILED, Fact.CAPTURED), [Status.PAYMENT_FAILED, Status.CANCELLED], False),
    ],
)
def test_each_failure_path_compensates_and_ends(
    facts: tuple[Fact, ...], entered: list[Status], ended: bool
) -> None:
    """The table's side branches, one by one; a capture after a cancellation re-opens the saga."""
    saga, was_entered = run(facts)
    assert was_entered == entered
    assert has_ended(saga) is ended


def test_every_order_of_delivery_keeps_the_invariants() -> None:
    """I1 to I4 after every prefix of every permutation of every subset of the facts."""
    for delivery in every_delivery():
        saga, entered = run(delivery)
        announced = [status for status in entered if status in ANNOUNCED]
        assert len(set(entered)) == len(entered), f"I1 {delivery}"
        if Status.CONFIRMED in entered:
            assert {Fact.CAPTURED, Fact.RESERVED} <= saga.facts, f"I2 {delivery}"
            assert Status.CANCELLED not in entered, f"I2 {delivery}"
        if Fact.CAPTURED in saga.facts and saga.status is not Status.PAID:
            assert {Status.CONFIRMED, Status.CANCELLED} & set(announced), f"I3 {delivery}"
        if has_ended(saga) and saga.status is Status.CANCELLED:
            assert Fact.CAPTURED not in saga.facts, f"I4 {delivery}"


def test_duplicates_anywhere_change_nothing() -> None:
    """I5: a delivery with every prefix repeated ends as the plain one, with the same events."""
    for delivery in every_delivery():
        repeated = tuple(fact for end in range(1, len(delivery) + 1) for fact in delivery[:end])
        assert run(repeated) == run(delivery), delivery


def test_every_complete_world_reaches_an_end_state() -> None:
    """Whatever the others really did, and in whatever order we hear of it, the saga ends.

    The worlds are those that payments and inventory can produce by their own promises.
    """
    worlds = [
        {Fact.CAPTURED, Fact.RESERVED},
        {Fact.CAPTURED, Fact.REJECTED, Fact.REFUNDED},
        {Fact.PAYMENT_FAILED},
        {Fact.TIMED_OUT, Fact.PAYMENT_FAILED},
        {Fact.TIMED_OUT, Fact.CAPTURED, Fact.REFUNDED},
        {Fact.TIMED_OUT, Fact.PAYMENT_FAILED, Fact.REFUNDED},
        {Fact.TIMED_OUT, Fact.PAYMENT_FAILED, Fact.CAPTURED, Fact.REFUNDED},
    ]
    for world in worlds:
        for delivery in itertools.permutations(sorted(world)):
            if delivery.index(Fact.CAPTURED) == 0 if Fact.CAPTURED in delivery else False:
                continue_with = [fact for fact in delivery if fact is not Fact.TIMED_OUT]
                if Fact.TIMED_OUT in world and Fact.REFUNDED not in world:
                    delivery = tuple(continue_with)
            saga, _ = run(delivery)
            assert has_ended(saga), (delivery, saga)
