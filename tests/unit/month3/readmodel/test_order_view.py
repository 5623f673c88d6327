"""The fold of order events, against the history that the real saga would have written."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month3_messaging.broker import Event
from month3_messaging.orders import ANNOUNCED, Fact, Line, Status, order_saga
from month3_messaging.readmodel.order_view import (
    ENTERS,
    PLACED,
    RANKED,
    OrderView,
    Placing,
    fold,
    fold_all,
)
from scalelab.errors import CorruptData, InvalidInput
from scalelab.saga import DEADLINE, advance, begin

SAGA = order_saga(600.0)
FACTS = (*Fact, DEADLINE)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
ORDERS = tuple(UUID(int=number) for number in range(1, 4))
LINES = [{"product_id": "p-1", "quantity": 2, "unit_minor": 150}]

deliveries = st.lists(st.sampled_from(FACTS), max_size=8)


def announced(facts: Sequence[str]) -> list[Status]:
    """The statuses that an order enters and announces when its saga is told these facts."""
    state, _ = begin(SAGA)
    statuses = [Status.PENDING]
    for fact in facts:
        state, effects = advance(SAGA, state, fact)
        statuses.extend(Status(effect.name) for effect in effects)
    return [status for status in statuses if status in ANNOUNCED or status is Status.PENDING]


def event_of(order_id: UUID, status: Status, at: datetime) -> Event:
    """The event with which an order enters a status."""
    kind = PLACED if status is Status.PENDING else f"orders.order.{status}.v1"
    data: dict[str, object] = {"order_id": str(order_id)}
    if status is Status.PENDING:
        data |= {"user_id": "ann", "lines": LINES, "total_minor": 300, "currency": "EUR"}
    return Event(uuid5(order_id, kind), kind, "/orders", str(order_id), at, data)


def history_of(order_id: UUID, facts: Sequence[str]) -> list[tuple[Status, datetime]]:
    """The model: what the write side's history would say, a second between the changes."""
    return [
        (status, BEGIN + timedelta(seconds=order_id.int * 100 + number))
        for number, status in enumerate(announced(facts))
    ]


def folded(events: Sequence[Event]) -> OrderView | None:
    view: OrderView | None = None
    for event in events:
        view = fold(view, event)
    return view


@st.composite
def logs(draw: st.DrawFn) -> tuple[dict[UUID, list[tuple[Status, datetime]]], list[Event]]:
    """Histories of a few orders, and their events: mixed, shuffled, some of them twice."""
    histories = {order_id: history_of(order_id, draw(deliveries)) for order_id in ORDERS}
    events = [
        event_of(order_id, status, at)
        for order_id, history in histories.items()
        for status, at in history
    ]
    copies = draw(st.lists(st.sampled_from(events), max_size=6))
    return histories, draw(st.permutations(events + copies))


@given(logs())
def test_any_order_of_delivery_with_copies_gives_the_history_of_the_write_side(
    log: tuple[dict[UUID, list[tuple[Status, datetime]]], list[Event]],
) -> None:
    """V1 and V2."""
    histories, events = log
    views, unreadable = fold_all({}, events)
    placing = Placing("ann", (Line("p-1", 2, 150),), 300, "EUR")
    assert views == {
        order_id: OrderView(order_id, placing, tuple(history))
        for order_id, history in histories.items()
    }
    assert unreadable == 0


@given(logs(), st.integers(1, 5))
def test_batches_of_any_size_give_what_one_reading_gives(
    log: tuple[dict[UUID, list[tuple[Status, datetime]]], list[Event]], size: int
) -> None:
    """What a projector does: it loads the views that a batch touches, and stores them again."""
    _, events = log
    kept: dict[UUID, OrderView] = {}
    for start in range(0, len(events), size):
        kept |= fold_all(kept, events[start : start + size])[0]
    assert kept == fold_all({}, events)[0]


@given(logs())
def test_the_status_never_falls_back(
    log: tuple[dict[UUID, list[tuple[Status, datetime]]], list[Event]],
) -> None:
    """V3."""
    _, events = log
    for order_id in ORDERS:
        seen: list[int] = []
        view: OrderView | None = None
        for event in events:
            if event.subject == str(order_id):
                view = fold(view, event)
                assert view is not None
                seen.append(RANKED.index(view.status))
        assert seen == sorted(seen)


def test_every_path_of_the_saga_ascends_in_rank() -> None:
    """V4, over each subset of the facts in each order (1,957 paths)."""
    for size in range(len(FACTS) + 1):
        for facts in itertools.permutations(FACTS, size):
            ranks = [RANKED.index(status) for status in announced(facts)]
            assert ranks == sorted(set(ranks)), facts


def test_everything_that_is_announced_is_folded() -> None:
    """A status that the saga learns to announce must get a rank here."""
    assert set(ENTERS.values()) == {Status.PENDING, *ANNOUNCED} == set(RANKED)


def test_an_order_whose_placing_is_still_missing_has_no_details() -> None:
    """And it gets them when the placing comes late."""
    paid = event_of(ORDERS[0], Status.PAID, BEGIN)
    placed = event_of(ORDERS[0], Status.PENDING, BEGIN)
    early = folded([paid])
    assert early is not None
    assert early.placing is None
    late = fold(early, placed)
    assert late is not None
    assert late.placing is not None
    assert late.status is Status.PAID


def test_an_event_of_another_type_changes_nothing() -> None:
    """V5: a type that a later producer adds is no reason to stop."""
    view = folded([event_of(ORDERS[0], Status.PENDING, BEGIN)])
    odd = replace(event_of(ORDERS[0], Status.PAID, BEGIN), type="orders.order.gifted.v1")
    assert fold(view, odd) is view


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": ""},
        {"user_id": "a\x00b"},
        {"user_id": "\ud800"},
        {"user_id": None},
        {"lines": "none"},
        {"lines": [{"product_id": "p-1", "quantity": 0, "unit_minor": 1}]},
        {"total_minor": "300"},
        {"total_minor": 2**63},
        {"currency": "euro"},
    ],
)
def test_a_placing_that_cannot_be_read_is_counted_and_changes_nothing(
    change: dict[str, object],
) -> None:
    """V5: among them what a database could not store, which would stop the reading for ever."""
    good = event_of(ORDERS[1], Status.PENDING, BEGIN)
    placed = event_of(ORDERS[0], Status.PENDING, BEGIN)
    bad = replace(placed, data={**placed.data, **change})
    with pytest.raises(InvalidInput):
        fold(None, bad)
    views, unreadable = fold_all({}, [bad, good])
    assert (views.keys(), unreadable) == ({ORDERS[1]}, 1)


@pytest.mark.parametrize("subject", ["order-1", str(ORDERS[1])])
def test_an_event_about_another_order_than_its_data_is_refused(subject: str) -> None:
    """V5."""
    bad = replace(event_of(ORDERS[0], Status.PAID, BEGIN), subject=subject)
    with pytest.raises(CorruptData):
        fold(None, bad)
