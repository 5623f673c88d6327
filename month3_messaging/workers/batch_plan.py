"""Which records of a batch may share a transaction, and which must go alone. Pure.

Theory of operation
    A batch is a stretch of one partition. What cannot be carried out at all would take the whole
    transaction with it, so it is told apart before one is begun: a record that is no event goes
    alone, and parts what stands before it from what stands behind it. So does one that has a time
    before which it must not be tried. Records of a type that nobody here handles are passed over.
    That an event is poison to its effect cannot be seen here; only the attempt tells.

Invariants (tests cite them)
    B1  Every record of a handled type, or of none, is in one step, and steps keep their order.
    B2  What goes alone shares its step with no other record.
    B3  Of two steps that follow each other one goes alone: no batch is cut without need.
    B4  The last step settles the last record.

Absent on purpose: sizes (the lane bounds a batch), I/O, attempts.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from month3_messaging.broker import Event, from_wire
from month3_messaging.workers.failure_policy import due_ms
from scalelab.clients.kafka_records import Record
from scalelab.errors import CorruptData


@dataclass(slots=True)
class Step:
    """A stretch of records that is settled as one.

    records: what is to be carried out, in order. events: what they say, one each; none if the one
    record goes alone. skipped: how many records it passes over. through: the last offset in it.
    """

    records: list[Record] = field(default_factory=list[Record])
    events: list[Event] = field(default_factory=list[Event])
    skipped: int = 0
    through: int = -1


def plan(records: Iterable[Record], types: Container[str]) -> list[Step]:
    """The steps in which `records`, offsets rising, are settled. types: those that are handled."""
    steps = [Step()]
    for record in records:
        kind = record.headers.get("ce_type")
        current = steps[-1]
        if kind and kind not in types:
            current.skipped += 1
            current.through = record.offset
            continue
        event = None if due_ms(record.headers) else _event_in(record)
        if event is None:
            steps += [Step([record], through=record.offset), Step()]
        else:
            current.records.append(record)
            current.events.append(event)
            current.through = record.offset
    return [step for step in steps if step.through >= 0]


def event_of(record: Record) -> Event:
    """The event in `record`. Raises CorruptData if it is none, or its key is not its subject."""
    event = from_wire(record.headers, record.value)
    if event.subject != record.key:
        raise CorruptData(f"ce_subject {event.subject!r} is not the record's key {record.key!r}")
    return event


def firsts_among(events: Sequence[Event], first_times: frozenset[UUID]) -> Sequence[Event]:
    """Of each id in `first_times` the first event, in order: a copy in the same batch is none."""
    if len(first_times) == len(events):
        return events
    left = set(first_times)
    firsts: list[Event] = []
    for event in events:
        if event.id in left:
            left.discard(event.id)
            firsts.append(event)
    return firsts


def _event_in(record: Record) -> Event | None:
    try:
        return event_of(record)
    except CorruptData:
        return None
