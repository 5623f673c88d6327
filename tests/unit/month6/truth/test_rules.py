"""The shop's rules over values: a clean world balances, and each planted error is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from month6_capstone.truth import World, judge
from month6_capstone.truth.records import (
    AnswerRow,
    Attempt,
    HistoryRow,
    HoldRow,
    InboxRow,
    OutboxRow,
    SlotRow,
    TopicRecord,
)
from tests.unit.month6.truth.worlds import LINES, NOW, clean_world, entry, line

T = TypeVar("T")
Plant = Callable[[World], World]


def without(rows: tuple[T, ...], **having: Any) -> tuple[T, ...]:
    """The rows, but for those that match."""
    kept = tuple(row for row in rows if not _matches(row, having))
    assert len(kept) < len(rows), "nothing was taken out"
    return kept


def changed(rows: tuple[T, ...], having: dict[str, Any], **values: Any) -> tuple[T, ...]:
    """The rows, with those that match changed."""
    assert any(_matches(row, having) for row in rows), "nothing was changed"
    return tuple(
        replace(row, **values) if _matches(row, having) else row  # type: ignore[type-var]
        for row in rows
    )


def _matches(row: object, having: dict[str, Any]) -> bool:
    return all(getattr(row, name) == value for name, value in having.items())


def swapped(rows: tuple[TopicRecord, ...], one: str, other: str) -> tuple[TopicRecord, ...]:
    offsets = {record.event_id: record.offset for record in rows}
    exchange = {one: offsets[other], other: offsets[one]}
    return tuple(
        replace(record, offset=exchange.get(record.event_id, record.offset)) for record in rows
    )


PLANTS: dict[str, tuple[set[str], set[str], Plant]] = {
    # name: (rules that must be broken, ids that must be named, plant)
    "lost order": (
        {"accepted_order_exists", "answered_order_exists"},
        {"sold"},
        lambda w: replace(w, orders=without(w.orders, order_id="sold")),
    ),
    "two orders for one request": (
        {"one_order_per_request", "order_was_asked_for", "order_was_answered"},
        {"twin"},
        lambda w: replace(
            w,
            orders=(*w.orders, replace(w.orders[0], order_id="twin")),
        ),
    ),
    "copies answered with different orders": (
        {"same_order_on_every_answer"},
        {"sold", "sold2"},
        lambda w: replace(
            w,
            attempts=(
                *(w.attempts or ()),
                Attempt("user-sold", "key-sold", 2, "accepted", 202, "sold2"),
            ),
        ),
    ),
    "answer differs from the record": (
        {"same_order_on_every_answer", "order_answered_once"},
        {"sold", "sold2"},
        lambda w: replace(w, answers=changed(w.answers, {"order_id": "sold"}, order_id="sold2")),
    ),
    "order nobody asked for": (
        {"order_was_asked_for"},
        {"declined"},
        lambda w: replace(
            w,
            attempts=changed(
                w.attempts or (),
                {"order_id": "declined"},
                key="another",
                outcome="unknown",
                order_id=None,
            ),
        ),
    ),
    "order without a record of its answer": (
        {"order_was_answered"},
        {"declined"},
        lambda w: replace(w, answers=without(w.answers, order_id="declined")),
    ),
    "refused, yet ordered": (
        {"refused_request_left_nothing"},
        {"late"},
        lambda w: replace(
            w,
            attempts=changed(w.attempts or (), {"key": "key-late"}, outcome="refused", status=422),
        ),
    ),
    "order of another user": (
        {"accepted_order_exists", "answered_order_exists"},
        {"sold"},
        lambda w: replace(w, orders=changed(w.orders, {"order_id": "sold"}, user_id="mallory")),
    ),
    "order on two shards": (
        {"order_on_one_shard"},
        {"sold"},
        lambda w: replace(w, orders=(*w.orders, replace(w.orders[0], store="shard-1"))),
    ),
    "stuck order": (
        {"order_ended"},
        {"sold"},
        lambda w: replace(w, sagas=changed(w.sagas, {"order_id": "sold"}, ended_at=None)),
    ),
    "order without a saga": (
        {"order_has_a_saga", "order_ended"},
        {"late"},
        lambda w: replace(w, sagas=without(w.sagas, order_id="late")),
    ),
    "saga ended half way": (
        {"ended_order_rests", "order_is_its_last_history"},
        {"sold"},
        lambda w: replace(
            w, orders=changed(w.orders, {"order_id": "sold"}, status="paid", version=2)
        ),
    ),
    "gap in the history": (
        {"history_is_contiguous", "history_is_legal"},
        {"sold"},
        lambda w: replace(w, history=without(w.history, order_id="sold", version=2)),
    ),
    "illegal step": (
        {"history_is_legal", "order_is_its_last_history"},
        {"declined"},
        lambda w: replace(w, history=(*w.history, HistoryRow("declined", 3, "confirmed"))),
    ),
    "double charge": (
        {"charged_once", "capture_is_a_charge"},
        {"sold"},
        lambda w: replace(w, book=(*w.book, replace(line(6, "charge", "sold"), charge_id="ch-2"))),
    ),
    "charge of an unknown order": (
        {"charge_has_an_order", "capture_is_a_charge"},
        {"ghost"},
        lambda w: replace(w, book=(*w.book, line(6, "charge", "ghost"))),
    ),
    "capture that was never charged": (
        {"capture_is_a_charge", "payment_names_its_charge", "book_has_no_gap"},
        {"sold"},
        lambda w: replace(w, book=without(w.book, order_id="sold")),
    ),
    "charge of another amount": (
        {"capture_is_a_charge"},
        {"sold"},
        lambda w: replace(w, book=changed(w.book, {"order_id": "sold"}, amount_minor=1249)),
    ),
    "refund that was never paid": (
        {"refund_is_paid_back"},
        {"rejected"},
        lambda w: replace(w, book=without(w.book, kind="refund")),
    ),
    "refund paid twice": (
        {"refunded_once", "refund_is_paid_back"},
        {"rejected"},
        lambda w: replace(w, book=(*w.book, line(6, "refund", "rejected"))),
    ),
    "ledger entry out of balance": (
        {"ledger_entry_balances", "ledger_balances"},
        {"capture-sold"},
        lambda w: replace(
            w,
            postings=changed(
                w.postings,
                {"order_id": "sold", "account": "liabilities:orders"},
                amount_minor=-1249,
            ),
        ),
    ),
    "entry without postings": (
        {"ledger_entry_is_whole", "capture_is_a_charge", "order_money_is_right"},
        {"capture-sold"},
        lambda w: replace(
            w,
            postings=(
                *without(w.postings, order_id="sold"),
                replace(entry("sold", "capture")[0], account=None, amount_minor=0),
            ),
        ),
    ),
    "captured twice in the ledger": (
        {"payment_is_in_ledger", "capture_is_a_charge", "order_money_is_right"},
        {"sold"},
        lambda w: replace(
            w,
            postings=(
                *w.postings,
                *(replace(posting, entry_id="again") for posting in entry("sold", "capture")),
            ),
        ),
    ),
    "refund that is not in the ledger": (
        {"payment_is_in_ledger", "refund_is_paid_back", "captured_minus_refunded_is_confirmed"},
        {"rejected"},
        lambda w: replace(w, postings=without(w.postings, kind="refund")),
    ),
    "captured another amount than the total": (
        {"captured_the_total", "order_money_is_right"},
        {"sold"},
        lambda w: replace(w, orders=changed(w.orders, {"order_id": "sold"}, total_minor=1300)),
    ),
    "sold without stock": (
        {"confirmed_order_has_its_stock", "reserved_is_accounted_for"},
        {"sold", "hold-sold", "p-1"},
        lambda w: replace(w, holds=changed(w.holds, {"hold_id": "hold-sold"}, state="released")),
    ),
    "sold other pieces than ordered": (
        {"confirmed_order_has_its_stock", "reserved_is_accounted_for"},
        {"sold", "p-1"},
        lambda w: replace(
            w, holds=changed(w.holds, {"hold_id": "hold-sold"}, lines=(("p-1", 1), ("p-2", 1)))
        ),
    ),
    "negative stock": (
        {"stock_is_not_negative"},
        {"p-1"},
        lambda w: replace(
            w, stock=changed(w.stock, {"product_id": "p-1"}, available=-1, initial=3)
        ),
    ),
    "pieces out of nowhere": (
        {"stock_is_conserved"},
        {"p-1"},
        lambda w: replace(w, stock=changed(w.stock, {"product_id": "p-1"}, available=7)),
    ),
    "leaked hold of an ended order": (
        {"ended_order_holds_nothing", "held_is_accounted_for"},
        {"declined", "hold-declined"},
        lambda w: replace(
            w,
            holds=changed(
                w.holds,
                {"hold_id": "hold-declined"},
                state="held",
                expires_at=NOW + timedelta(minutes=1),
            ),
        ),
    ),
    "reserved for an order that is over": (
        {"reserved_hold_is_sold", "ended_order_holds_nothing", "reserved_is_accounted_for"},
        {"rejected", "hold-rejected"},
        lambda w: replace(
            w, holds=changed(w.holds, {"hold_id": "hold-rejected"}, state="reserved")
        ),
    ),
    "expired and not swept": (
        {"expired_hold_is_swept"},
        {"hold-open"},
        lambda w: replace(
            w,
            holds=changed(
                w.holds, {"hold_id": "hold-open"}, expires_at=NOW - timedelta(seconds=30)
            ),
        ),
    ),
    "event lost between outbox and topic": (
        {"committed_event_is_published", "effect_has_its_event"},
        {"sold-captured"},
        lambda w: replace(w, topic=without(w.topic, event_id="sold-captured")),
    ),
    "orphan event": (
        {"published_event_was_committed"},
        {"forged"},
        lambda w: replace(
            w,
            topic=(
                *w.topic,
                TopicRecord(
                    "orders.order", 0, 999, "x", "forged", "orders.order.confirmed.v1", NOW
                ),
            ),
        ),
    ),
    "events of a key out of order": (
        {"order_per_key"},
        {"sold-placed", "sold-paid"},
        lambda w: replace(
            w, topic=swapped(tuple(r for r in w.topic if r.offset < 24), "sold-placed", "sold-paid")
        ),
    ),
    "event under another key": (
        {"published_as_committed"},
        {"sold-paid"},
        lambda w: replace(w, topic=changed(w.topic, {"event_id": "sold-paid"}, key="other")),
    ),
    "event that took no effect": (
        {"published_event_took_effect"},
        {"inventory", "sold-paid"},
        lambda w: replace(w, inbox=without(w.inbox, event_id="sold-paid")),
    ),
    "effect without an event": (
        {"effect_has_its_event"},
        {"nowhere"},
        lambda w: replace(w, inbox=(*w.inbox, InboxRow("payments", "payments", "nowhere"))),
    ),
    "slot that no shard has": (
        {"slot_has_one_owner", "order_is_where_its_slot_is"},
        {"sold", "0"},
        lambda w: replace(w, slots=without(w.slots, slot=0)),
    ),
    "slot on two shards": (
        {"slot_has_one_owner"},
        {"9"},
        lambda w: replace(w, slots=(*w.slots, SlotRow("shard-1", 9, "owned"))),
    ),
    "slot left fenced": (
        {"slot_takes_writes"},
        {"shard-0", "9"},
        lambda w: replace(w, slots=changed(w.slots, {"slot": 9}, state="fenced")),
    ),
    "order left behind by its slot": (
        {"order_is_where_its_slot_is"},
        {"sold"},
        lambda w: replace(w, slots=changed(w.slots, {"slot": 0}, store="shard-1")),
    ),
    "order that says no slot": (
        {"order_is_where_its_slot_is"},
        {"sold"},
        lambda w: replace(w, orders=changed(w.orders, {"order_id": "sold"}, slot=None)),
    ),
    "event committed twice": (
        {"event_committed_once"},
        {"sold-paid"},
        lambda w: replace(
            w,
            outbox=(
                *w.outbox,
                OutboxRow(
                    "shard-1", 1, "sold-paid", "orders.order", "sold", "orders.order.paid.v1", NOW
                ),
            ),
        ),
    ),
}


def test_a_clean_world_is_balanced() -> None:
    """No violation, every rule looked at something, duplicates are only counted."""
    report = judge(clean_world())
    assert report.violations == ()
    assert report.balanced
    idle = {rule for rule, examined in report.checked.items() if not examined}
    assert idle == set()
    assert report.counted == {"duplicate_events": 1, "dead_letters": 0}


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_error_is_found(name: str) -> None:
    """The named rules are broken, with the ids at fault among those that are named."""
    expected, ids, plant = PLANTS[name]
    report = judge(plant(clean_world()))
    found = {violation.rule for violation in report.violations}
    assert found >= expected, report.violations
    named = {one for violation in report.violations for one in violation.ids}
    assert named >= ids
    assert not report.balanced


def test_every_rule_is_broken_by_some_plant() -> None:
    """A rule that no plant breaks has never been seen to fail."""
    broken = {
        violation.rule
        for _rules, _ids, plant in PLANTS.values()
        for violation in judge(plant(clean_world())).violations
    }
    only_counts = {"requests_of_unknown_outcome"}
    assert judge(clean_world()).checked.keys() - only_counts == broken


def test_an_unknown_outcome_may_be_one_order_or_none() -> None:
    """The request without an answer is balanced with its order and without it."""
    world = clean_world()
    report = judge(world)
    assert report.checked["requests_of_unknown_outcome"] == 2 + 1
    assert report.balanced


def test_without_a_client_log_the_stores_are_still_compared() -> None:
    """Rules about the log are left out, not passed."""
    report = judge(replace(clean_world(), attempts=None))
    assert report.balanced
    assert "accepted_order_exists" not in report.checked
    assert "answered_order_exists" in report.checked


def test_the_log_speaks_for_its_own_users_only() -> None:
    """An order of somebody who keeps no log needs no line in it."""
    world = clean_world()
    attempts = without(world.attempts or (), order_id="declined")
    assert judge(replace(world, attempts=attempts)).balanced


def test_a_key_that_changed_its_shard_is_judged_by_when_it_wrote() -> None:
    """Its later events have smaller numbers there, which mean nothing across shards."""
    world = clean_world()
    moved = replace(
        world,
        outbox=changed(
            world.outbox, {"event_id": "sold-confirmed"}, store="shard-1", id=-1, at=NOW
        ),
    )
    assert judge(moved).balanced
    too_early = replace(moved, topic=swapped(moved.topic, "sold-paid", "sold-confirmed"))
    assert {one.rule for one in judge(too_early).violations} == {"order_per_key"}


def test_events_older_than_the_outbox_are_not_orphans() -> None:
    """Rows of sent events are deleted after a day; the topic keeps its records longer."""
    world = clean_world()
    old = TopicRecord(
        "orders.order", 0, 999, "x", "old", "orders.order.confirmed.v1", NOW - timedelta(days=2)
    )
    assert judge(replace(world, topic=(*world.topic, old))).balanced


def test_a_stored_refusal_is_no_order() -> None:
    """An idempotency record of a 4xx answer names none."""
    world = clean_world()
    refusal = AnswerRow("shard-0", "user-refused", "key-refused", 422, None)
    assert judge(replace(world, answers=(*world.answers, refusal))).balanced


def test_an_unfinished_order_is_reported_once() -> None:
    """Its half-done money and stock are not reported as further errors."""
    world = clean_world()
    half = replace(
        world,
        sagas=changed(world.sagas, {"order_id": "sold"}, ended_at=None),
        orders=changed(world.orders, {"order_id": "sold"}, status="paid", version=2),
        history=without(
            without(world.history, order_id="sold", version=4), order_id="sold", version=3
        ),
    )
    assert {violation.rule for violation in judge(half).violations} == {"order_ended"}


def test_the_report_is_a_document_for_programs() -> None:
    """Design section 8: balanced, checked, violations."""
    world = clean_world()
    lost = replace(world, holds=(*world.holds, HoldRow("h", None, "held", None, LINES)))
    document = judge(lost).as_json()
    assert document["balanced"] is False
    assert document["checked"]["stock_is_conserved"] == 2
    assert {
        "rule": "held_is_accounted_for",
        "ids": ["p-1"],
        "detail": document["violations"][0]["detail"],
    } in document["violations"]
