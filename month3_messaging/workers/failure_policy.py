"""What becomes of an event whose handler failed: a pure decision.

    the handler raised                        then
    Unavailable, OutcomeUnknown, Overloaded   again here, after a growing pause: the dependency is
    Conflict `serialization_failure`          down or busy, so every other event would fail as well,
                                              and order per key is worth more than progress
    CorruptData, InvalidInput, TooLarge,      dead letter at once: the same bytes fail the same way
    IdempotencyMismatch
    InvariantBroken                           the worker stops: a rule of our own is broken
    anything else                             later, by the ladder (ladder.py), and after its last
                                              rung a dead letter

"Later" is a choice. MOVE_ASIDE sends the event to the next retry topic and goes on without it; it
has left its key's order, and handlers must bear late events, which sagas have to do anyway.
HOLD_KEY keeps it and lets the events of its key wait behind it; other keys go on.

    orders.order -> orders.order.<group>.retry.5s -> orders.order.<group>.retry.1m -> ….<group>.dlq

Every consumer group has its own ladder: one group's trouble is never delivered to another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from month3_messaging.workers.ladder import RetryStep, wait_s
from scalelab.errors import (
    Conflict,
    CorruptData,
    IdempotencyMismatch,
    InvalidInput,
    InvariantBroken,
    OutcomeUnknown,
    Overloaded,
    ScalelabError,
    TooLarge,
    Unavailable,
)

ORIGIN_TOPIC = "origin_topic"
ORIGIN_PARTITION = "origin_partition"
ORIGIN_OFFSET = "origin_offset"
ATTEMPT = "retry_attempt"
DUE_MS = "retry_due_ms"
ERROR_CODE = "error_code"
ERROR_MESSAGE = "error_message"
ERROR_STACK = "error_stack"

BOOKKEEPING = frozenset(
    {
        ORIGIN_TOPIC,
        ORIGIN_PARTITION,
        ORIGIN_OFFSET,
        ATTEMPT,
        DUE_MS,
        ERROR_CODE,
        ERROR_MESSAGE,
        ERROR_STACK,
    }
)
"""Headers that the ladder adds; everything else is the producer's and travels unchanged."""

_MESSAGE_CHARS_MAX = 500
_STACK_CHARS_MAX = 8000
_POISON = (CorruptData, InvalidInput, TooLarge, IdempotencyMismatch)
_DEPENDENCY_DOWN = (Unavailable, OutcomeUnknown, Overloaded)


class Verdict(StrEnum):
    """What to do with the event now."""

    AGAIN_HERE = "again_here"
    RETRY_LATER = "retry_later"
    DEAD = "dead"
    STOP = "stop"


class OnFailure(StrEnum):
    """How an event is tried again later: without its key, or with its key waiting behind it."""

    MOVE_ASIDE = "move_aside"
    HOLD_KEY = "hold_key"


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, in words that fit into headers."""

    code: str
    message: str
    stack: str


@dataclass(frozen=True, slots=True)
class Forward:
    """Where the record goes next, and its headers there. dead: whether it is a dead letter."""

    topic: str
    headers: dict[str, str]
    dead: bool


def classify(error: Exception) -> Verdict:
    """The verdict on one failed attempt, by the table above."""
    if isinstance(error, InvariantBroken):
        return Verdict.STOP
    if isinstance(error, _POISON):
        return Verdict.DEAD
    if isinstance(error, _DEPENDENCY_DOWN):
        return Verdict.AGAIN_HERE
    if isinstance(error, Conflict) and error.stable_code == "serialization_failure":
        return Verdict.AGAIN_HERE
    return Verdict.RETRY_LATER


def describe(error: Exception, stack: str) -> Failure:
    """Code, message and stack of `error`, cut to sizes that fit into headers."""
    code = error.stable_code if isinstance(error, ScalelabError) else type(error).__name__
    return Failure(code, str(error)[:_MESSAGE_CHARS_MAX], stack[-_STACK_CHARS_MAX:])


def retry_topic(topic: str, group: str, step: RetryStep) -> str:
    """The name of one rung for `group`, for events that first came from `topic`."""
    return f"{topic}.{group}.retry.{step.suffix}"


def dead_letter_topic(topic: str, group: str) -> str:
    """The name of the dead-letter topic of `group` for events that first came from `topic`."""
    return f"{topic}.{group}.dlq"


def topics_of(topic: str, group: str, ladder: Sequence[RetryStep]) -> tuple[str, ...]:
    """All topics of the ladder under `topic`: each rung's once, in order, then the dead letters."""
    rungs = dict.fromkeys(retry_topic(topic, group, step) for step in ladder)
    return (*rungs, dead_letter_topic(topic, group))


def attempts_so_far(headers: Mapping[str, str]) -> int:
    """How many rungs this record has climbed; 0 on the topic it was published to."""
    text = headers.get(ATTEMPT, "0")
    return int(text) if text.isascii() and text.isdigit() else 0


def due_ms(headers: Mapping[str, str]) -> int:
    """Unix milliseconds before which a retry must not be tried; 0 when there is no wait."""
    text = headers.get(DUE_MS, "0")
    return int(text) if text.isascii() and text.isdigit() else 0


def forward(
    *,
    verdict: Verdict,
    failure: Failure,
    group: str,
    ladder: Sequence[RetryStep],
    topic: str,
    partition: int,
    offset: int,
    headers: Mapping[str, str],
    now_ms: int,
    random_unit: float,
    tried: int = 1,
) -> Forward:
    """Where a failed record goes: the next rung for RETRY_LATER while there is one, else the DLQ.

    topic, partition, offset: where it was read just now. The origin headers keep the place where
    it was first read. now_ms: Unix milliseconds. random_unit: uniform in 0..1, for the wait. tried:
    attempts since it was read there.
    """
    attempt = attempts_so_far(headers)
    origin = headers.get(ORIGIN_TOPIC, topic)
    onward = {name: text for name, text in headers.items() if name not in BOOKKEEPING}
    onward[ORIGIN_TOPIC] = origin
    onward[ORIGIN_PARTITION] = headers.get(ORIGIN_PARTITION, str(partition))
    onward[ORIGIN_OFFSET] = headers.get(ORIGIN_OFFSET, str(offset))
    onward[ERROR_CODE] = failure.code
    onward[ERROR_MESSAGE] = failure.message
    onward[ATTEMPT] = str(attempt + tried)
    if verdict is Verdict.RETRY_LATER and attempt < len(ladder):
        step = ladder[attempt]
        onward[DUE_MS] = str(now_ms + int(wait_s(step, random_unit) * 1000))
        return Forward(retry_topic(origin, group, step), onward, dead=False)
    onward[ERROR_STACK] = failure.stack
    return Forward(dead_letter_topic(origin, group), onward, dead=True)
