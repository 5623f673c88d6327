"""Which records of a batch go together and which of its events are new, without a broker."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from month3_messaging.broker import Event, to_headers, to_value
from month3_messaging.workers import DUE_MS
from month3_messaging.workers.batch_plan import firsts_among, plan
from scalelab.clients.kafka_records import Record

KIND, FOREIGN = "test.thing.happened.v1", "test.other.happened.v1"
MADE = datetime(2026, 1, 1, tzinfo=UTC)


def event(number: int, kind: str = KIND) -> Event:
    return Event(UUID(int=number), kind, "/test", f"key-{number % 3}", MADE, {"number": number})


def record(offset: int, what: str = "event") -> Record:
    said = event(offset, FOREIGN if what == "foreign" else KIND)
    fine = Record("things", 0, offset, said.subject, to_value(said), to_headers(said), 0)
    match what:
        case "junk":
            return replace(fine, value=b"not JSON")
        case "no type":
            return replace(fine, headers={})
        case "wrong key":
            return replace(fine, key="another")
        case "not yet due":
            return replace(fine, headers={**fine.headers, DUE_MS: "99"})
        case _:
            return fine


ALONE = ("junk", "no type", "wrong key", "not yet due")


@given(st.lists(st.sampled_from(["event", "foreign", *ALONE]), max_size=30), st.integers(0, 100))
def test_every_record_has_its_place_in_the_fewest_steps(kinds: list[str], first: int) -> None:
    """B1 to B4 for any mixture."""
    records = [record(first + number, kind) for number, kind in enumerate(kinds)]
    steps = plan(records, {KIND})
    wanted = [one for one, kind in zip(records, kinds, strict=True) if kind != "foreign"]
    assert [one for step in steps for one in step.records] == wanted
    assert sum(step.skipped for step in steps) == kinds.count("foreign")
    alone = [step for step in steps if step.records and not step.events]
    assert [(len(step.records), step.skipped) for step in alone] == [(1, 0)] * len(alone)
    assert len(alone) == sum(kind in ALONE for kind in kinds)
    assert all(a in alone or b in alone for a, b in pairwise(steps))
    assert not steps or steps[-1].through == records[-1].offset


def test_a_step_says_what_its_records_say() -> None:
    """The events are those of the records, one each."""
    [step] = plan([record(7), record(8)], {KIND})
    assert step.events == [event(7), event(8)]


@given(st.lists(st.integers(0, 9), max_size=20), st.frozensets(st.integers(0, 9)))
def test_of_copies_in_one_batch_the_first_takes_effect(
    numbers: list[int], new: frozenset[int]
) -> None:
    """Each new id once, in the order of the batch, whatever else is in it."""
    events = [replace(event(number), subject=f"at-{at}") for at, number in enumerate(numbers)]
    there = frozenset(UUID(int=number) for number in new if number in numbers)
    taken = firsts_among(events, there)
    assert {one.id for one in taken} == there
    assert [one.subject for one in taken] == [
        f"at-{at}"
        for at, number in enumerate(numbers)
        if number in new and number not in numbers[:at]
    ]
