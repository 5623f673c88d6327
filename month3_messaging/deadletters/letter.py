"""A dead letter on the desk: what it holds, where it stands, what may be done to it. Pure.

    parked ──replay──► replaying ──sent──► replayed
      │ ▲ edit               │                │
      │ └──── it failed again ◄───────────────┘
      └──discard──► discarded

Rules (tests cite them)
    L1  A letter keeps its event id through every edit and replay, so the consumer's inbox knows it.
    L2  A decision is made once: replay what is away, or discard what is discarded, changes nothing.
    L3  What is replayed is a well-formed event whose subject is its key.
    L4  A letter that comes back is told from a second copy of an earlier try by its round: the
        number of replays it was sent with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import NAMESPACE_URL, UUID, uuid5

from month3_messaging.broker import VALUE_BYTES_MAX, Event, from_wire
from month3_messaging.workers import (
    ATTEMPT,
    BOOKKEEPING,
    ERROR_CODE,
    ERROR_MESSAGE,
    ERROR_STACK,
    ORIGIN_OFFSET,
    ORIGIN_PARTITION,
    ORIGIN_TOPIC,
)
from scalelab.clients.kafka import Record
from scalelab.errors import Conflict, CorruptData, InvalidInput, TooLarge

ROUND = "desk_round"
"""Header of a replayed event: the how-manieth replay of its letter this is."""

_NUMBER_DIGITS_MAX = 18


class State(StrEnum):
    """Where a letter stands. replaying: decided, and perhaps sent."""

    PARKED = "parked"
    REPLAYING = "replaying"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event was first read."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"


@dataclass(frozen=True, slots=True)
class Letter:
    """One event that `group` gave up on.

    event_id: the event's own, or, where it has none, one made of its place. headers: the
    producer's. attempts: tries as its consumer counted them; a replay begins with one. round:
    replays so far.
    """

    group: str
    origin: Place
    event_id: UUID
    key: str | None
    headers: Mapping[str, str]
    value: bytes
    attempts: int
    code: str
    message: str
    stack: str
    state: State = State.PARKED
    round: int = 0

    @property
    def type(self) -> str:
        """The event's type, or nothing if it does not say."""
        return self.headers.get("ce_type", "")


def letter_of(record: Record, topic: str, group: str) -> Letter:
    """The letter in a record of the dead-letter topic of `group` for `topic`, however damaged."""
    headers = record.headers
    origin = Place(
        topic,
        _number(headers.get(ORIGIN_PARTITION), record.partition),
        _number(headers.get(ORIGIN_OFFSET), record.offset),
    )
    own = {n: text for n, text in headers.items() if n not in BOOKKEEPING and n != ROUND}
    return Letter(
        group=group,
        origin=origin,
        event_id=_uuid(headers.get("ce_id", "")) or uuid5(NAMESPACE_URL, f"{group}:{origin}"),
        key=record.key,
        headers=own,
        value=record.value or b"",
        attempts=_number(headers.get(ATTEMPT), 0),
        code=headers.get(ERROR_CODE, ""),
        message=headers.get(ERROR_MESSAGE, ""),
        stack=headers.get(ERROR_STACK, ""),
        round=_number(headers.get(ROUND), 0),
    )


def came_back(kept: Letter, arrived: Letter) -> Letter | None:
    """`kept` after its event has arrived as a dead letter once more; None for a copy (L4)."""
    away = kept.state in (State.REPLAYING, State.REPLAYED)
    if not away or arrived.round != kept.round:
        return None
    return replace(
        kept,
        state=State.PARKED,
        attempts=arrived.attempts,
        code=arrived.code,
        message=arrived.message,
        stack=arrived.stack,
    )


def edited(
    letter: Letter, *, headers: Mapping[str, str | None], value: bytes | None = None
) -> Letter:
    """The letter with another content: `headers` over its own (None takes one away), and `value`.

    The key follows the subject; a missing event id is put in. Raises Conflict `letter_not_parked`;
    InvalidInput `event_id_stays`, `header_reserved` or `not_an_event`; TooLarge.
    """
    _must_be_parked(letter, "edited")
    for name in headers:
        if name in BOOKKEEPING or name == ROUND:
            raise InvalidInput(
                f"{name} is written by the consumers", field=name, code="header_reserved"
            )
    if value is not None and len(value) > VALUE_BYTES_MAX:
        raise TooLarge(f"the value has {len(value)} bytes, over {VALUE_BYTES_MAX}")
    merged = {**letter.headers, "ce_id": str(letter.event_id), **headers}
    kept = {name: text for name, text in merged.items() if text is not None}
    if _uuid(kept.get("ce_id", "")) != letter.event_id:
        raise InvalidInput(
            f"the event id stays {letter.event_id}: by it the consumer knows what it has done",
            field="ce_id",
            code="event_id_stays",
        )
    after = replace(
        letter,
        headers=kept,
        key=kept.get("ce_subject"),
        value=letter.value if value is None else value,
    )
    event_in(after)
    return after


def event_in(letter: Letter) -> Event:
    """The event. Raises InvalidInput `not_an_event`, saying what is wrong with it (L3)."""
    try:
        event = from_wire(letter.headers, letter.value)
    except CorruptData as error:
        raise InvalidInput(f"this is no event: {error.message}", code="not_an_event") from error
    if event.subject != letter.key:
        raise InvalidInput(
            f"the subject {event.subject!r} is not the key {letter.key!r}",
            field="ce_subject",
            code="not_an_event",
        )
    return event


def replayed(letter: Letter) -> Letter:
    """Decided to be sent again; unchanged if it is away already (L2).

    Raises Conflict `letter_not_parked` for a discarded one, InvalidInput `not_an_event`.
    """
    if letter.state in (State.REPLAYING, State.REPLAYED):
        return letter
    _must_be_parked(letter, "replayed")
    event_in(letter)
    return replace(letter, state=State.REPLAYING, round=letter.round + 1)


def sent(letter: Letter, sent_round: int) -> Letter:
    """After Kafka has acknowledged a replay; unchanged if the letter has moved on meanwhile."""
    if letter.state is State.REPLAYING and letter.round == sent_round:
        return replace(letter, state=State.REPLAYED)
    return letter


def discarded(letter: Letter) -> Letter:
    """Given up for good; unchanged if it is already. Raises Conflict `letter_not_parked`."""
    if letter.state is State.DISCARDED:
        return letter
    _must_be_parked(letter, "discarded")
    return replace(letter, state=State.DISCARDED)


def headers_to_send(letter: Letter) -> dict[str, str]:
    """The headers of a replayed event on the group's first retry topic.

    The attempt of 1 says "on the ladder", so the next failure goes to the second rung; there is
    no wait.
    """
    return {
        **letter.headers,
        ORIGIN_TOPIC: letter.origin.topic,
        ORIGIN_PARTITION: str(letter.origin.partition),
        ORIGIN_OFFSET: str(letter.origin.offset),
        ATTEMPT: "1",
        ROUND: str(letter.round),
    }


def _must_be_parked(letter: Letter, done: str) -> None:
    if letter.state is not State.PARKED:
        raise Conflict(
            f"only a parked letter can be {done}; this one is {letter.state}",
            code="letter_not_parked",
        )


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _number(text: str | None, otherwise: int) -> int:
    if text and text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS_MAX:
        return int(text)
    return otherwise
