"""What may be done to a letter, and how one that comes back is told from a copy."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from month3_messaging.broker import Event, to_headers, to_value
from month3_messaging.deadletters.letter import (
    ROUND,
    Letter,
    Place,
    State,
    came_back,
    discarded,
    edited,
    event_in,
    headers_to_send,
    letter_of,
    replayed,
    sent,
)
from scalelab.clients.kafka import Record
from scalelab.errors import Conflict, InvalidInput, TooLarge

EVENT = Event(
    uuid4(), "test.thing.happened.v1", "/test", "key", datetime(2026, 1, 2, tzinfo=UTC), {"n": 1}
)
OWN = {"origin_topic": "things", "origin_partition": "2", "origin_offset": "41"}


def record(headers: dict[str, str], value: bytes | None = to_value(EVENT)) -> Record:
    return Record("things.group.dlq", 0, 7, "key", value, headers, 0)


def letter(state: State = State.PARKED) -> Letter:
    found = letter_of(
        record({**to_headers(EVENT), **OWN, "retry_attempt": "3", "error_code": "LookupError"}),
        "things",
        "group",
    )
    return replace(found, state=state)


def test_a_letter_knows_where_it_came_from_and_keeps_the_producers_headers() -> None:
    """Origin, tries and cause are fields; the headers are the event's own."""
    found = letter()
    assert found.origin == Place("things", 2, 41)
    assert (found.event_id, found.attempts, found.code) == (EVENT.id, 3, "LookupError")
    assert found.headers == to_headers(EVENT)
    assert event_in(found) == EVENT


def test_bytes_that_are_no_event_get_an_id_of_their_place() -> None:
    """Two copies of the same junk are one letter; it can be edited into an event (L1)."""
    junk = letter_of(record({**OWN, "retry_attempt": "x" * 30}, b"\xff"), "things", "group")
    again = letter_of(record(OWN, b"\xff"), "things", "group")
    assert junk.event_id == again.event_id
    with pytest.raises(InvalidInput) as refused:
        replayed(junk)
    assert refused.value.stable_code == "not_an_event"
    headers = {n: text for n, text in to_headers(EVENT).items() if n != "ce_id"}
    mended = edited(junk, headers=headers, value=to_value(EVENT))
    assert event_in(mended).id == junk.event_id


def test_a_tombstone_is_a_letter_without_bytes() -> None:
    """No value is no event, and nothing breaks."""
    assert letter_of(record({}, None), "things", "group").value == b""


@pytest.mark.parametrize(
    ("headers", "value", "code"),
    [
        ({"ce_id": str(uuid4())}, None, "event_id_stays"),
        ({"ce_id": None}, None, "event_id_stays"),
        ({"retry_attempt": "0"}, None, "header_reserved"),
        ({ROUND: "9"}, None, "header_reserved"),
        ({"ce_type": None}, None, "not_an_event"),
        ({}, b"[1]", "not_an_event"),
        ({}, b"\xff", "not_an_event"),
    ],
)
def test_an_edit_that_leaves_no_whole_event_is_refused(
    headers: dict[str, str | None], value: bytes | None, code: str
) -> None:
    """L1, L3, each with its stable code."""
    with pytest.raises(InvalidInput) as refused:
        edited(letter(), headers=headers, value=value)
    assert refused.value.stable_code == code


def test_an_edit_has_a_largest_size() -> None:
    """What could not be sent is not kept."""
    with pytest.raises(TooLarge):
        edited(letter(), headers={}, value=b" " * (512 * 1024 + 1))


def test_the_key_follows_the_subject() -> None:
    """An edited subject is the key under which the event is sent."""
    assert edited(letter(), headers={"ce_subject": "other"}).key == "other"


def test_a_decision_is_made_once() -> None:
    """L2: a second replay or discard changes nothing; what is away cannot be discarded."""
    away = replayed(letter())
    assert (away.state, away.round) == (State.REPLAYING, 1)
    assert replayed(away) is away
    gone = discarded(letter())
    assert discarded(gone) is gone
    for decide in (replayed, lambda one: edited(one, headers={})):
        with pytest.raises(Conflict):
            decide(gone)
    with pytest.raises(Conflict):
        discarded(away)


def test_a_letter_that_failed_again_is_parked_and_copies_are_not() -> None:
    """L4: only a failure of the latest replay brings it back, and only once."""
    away = sent(replayed(letter()), 1)
    assert away.state is State.REPLAYED
    first_try = replace(letter(), code="Other")
    second_try = replace(first_try, round=1)
    assert came_back(away, first_try) is None, "a copy of the failure that was replayed"
    back = came_back(away, second_try)
    assert back is not None
    assert (back.state, back.code) == (State.PARKED, "Other")
    assert came_back(back, second_try) is None, "a second copy"
    assert came_back(discarded(letter()), letter()) is None, "a copy of what was given up"


def test_a_late_acknowledgement_does_not_move_a_letter_that_moved_on() -> None:
    """The replay came back before it was marked: it stays parked."""
    back = came_back(replayed(letter()), replace(letter(), round=1))
    assert back is not None
    assert sent(back, 1) is back


def test_a_replay_carries_its_origin_and_its_round() -> None:
    """So the next failure goes to the second rung, and its letter is recognised."""
    headers = headers_to_send(replayed(letter()))
    assert headers[ROUND] == "1"
    assert headers["retry_attempt"] == "1"
    back = letter_of(record(headers), "things", "group")
    assert (back.origin, back.event_id, back.round) == (Place("things", 2, 41), EVENT.id, 1)
