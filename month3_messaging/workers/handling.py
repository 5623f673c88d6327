"""Carry out one record: parse, call the handler, and follow the failure policy to its end."""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from opentelemetry.trace import SpanKind, use_span

from month3_messaging.broker import Event
from month3_messaging.crash_points import CrashPoint
from month3_messaging.workers.batch_plan import event_of
from month3_messaging.workers.failure_policy import (
    OnFailure,
    Verdict,
    attempts_so_far,
    classify,
    describe,
    due_ms,
    forward,
)
from month3_messaging.workers.ladder import RetryStep, wait_s
from month3_messaging.workers.metrics import ConsumerMetrics
from scalelab.clients.kafka import Producer, Record
from scalelab.clock import Clock
from scalelab.errors import OutcomeUnknown, ScalelabError
from scalelab.telemetry import Telemetry, extract

Handler = Callable[[Event], Awaitable[None]]
"""Carries out one event; may be called again with the same event (guard effects by an inbox)."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the handling of every record has in common.

    slots: bounds how many handlers run at once. attempt_timeout_s: for one call of a handler.
    backoff_s: first and longest pause between attempts in place.
    """

    group: str
    handlers: Mapping[str, Handler]
    ladder: Sequence[RetryStep]
    on_failure: OnFailure
    slots: asyncio.Semaphore
    attempt_timeout_s: float
    backoff_s: tuple[float, float]
    producer: Producer
    metrics: ConsumerMetrics
    telemetry: Telemetry
    clock: Clock
    random: random.Random
    reached: Callable[[str], None]


async def settle(record: Record, conditions: Conditions) -> None:
    """Return once `record` needs no more attention here: handled, skipped or passed on.

    Waits for a retry's due time and through outages of dependencies, however long; with HOLD_KEY
    also for its next try, rung by rung. Raises only InvariantBroken, and errors of the broker that
    no waiting can mend.
    """
    kind = record.headers.get("ce_type")
    if kind and kind not in conditions.handlers:
        # Most of a topic may be meant for others: no span, no parsing, nothing to judge.
        conditions.metrics.skipped.labels(conditions.group).inc()
        return
    await _wait_until_due(record, conditions)
    pause = Pause(conditions)
    tried = 0
    while True:
        error = await _attempt(record, conditions)
        if error is None:
            return
        verdict = classify(error)
        if verdict is Verdict.STOP:
            raise error
        if verdict is not Verdict.AGAIN_HERE:
            tried += 1
            if await _held_for_next_try(record, verdict, tried, conditions):
                continue
            await _pass_on(record, error, verdict, tried, conditions)
            return
        conditions.metrics.again.labels(conditions.group).inc()
        conditions.telemetry.log.warning(
            "event_waits_for_dependency",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            error=str(error),
        )
        await pause.take()


async def _wait_until_due(record: Record, conditions: Conditions) -> None:
    due = due_ms(record.headers)
    if not due:
        return
    longest_s = max((step.delay_s for step in conditions.ladder), default=0.0)
    left_s = (due - _now_ms(conditions)) / 1000
    if left_s > 0:
        # At most the longest rung: a wall clock that was set back cannot stretch the wait.
        await asyncio.sleep(min(left_s, longest_s))


async def _held_for_next_try(
    record: Record, verdict: Verdict, tried: int, conditions: Conditions
) -> bool:
    """Wait on the next rung without letting go of the record; False if it is not to wait here."""
    rung = attempts_so_far(record.headers) + tried
    if (
        conditions.on_failure is not OnFailure.HOLD_KEY
        or verdict is not Verdict.RETRY_LATER
        or rung > len(conditions.ladder)
    ):
        return False
    with conditions.metrics.held_keys.labels(conditions.group).track_inprogress():
        await asyncio.sleep(wait_s(conditions.ladder[rung - 1], conditions.random.random()))
    return True


async def _attempt(record: Record, conditions: Conditions) -> Exception | None:
    """One attempt, in a span that continues the sender's trace; returns what went wrong."""
    span = conditions.telemetry.tracer.start_span(
        f"{record.topic} process",
        context=extract(record.headers),
        kind=SpanKind.CONSUMER,
        attributes={
            "messaging.system": "kafka",
            "messaging.destination.name": record.topic,
            "messaging.consumer.group.name": conditions.group,
            "messaging.message.id": record.headers.get("ce_id", ""),
        },
    )
    with use_span(span, end_on_exit=True):
        try:
            async with conditions.slots:
                await _carry_out(record, conditions)
        except Exception as error:  # noqa: BLE001 (a handler may raise anything; classified next)
            span.record_exception(error)
            return error
    return None


async def _carry_out(record: Record, conditions: Conditions) -> None:
    event = event_of(record)
    handler = conditions.handlers[event.type]
    conditions.reached(CrashPoint.CONSUMER_RECEIVED)
    limit = asyncio.timeout(conditions.attempt_timeout_s)
    try:
        async with limit:
            await handler(event)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise OutcomeUnknown(
            f"{event.type} was not carried out within {conditions.attempt_timeout_s} s"
        ) from error
    conditions.reached(CrashPoint.CONSUMER_HANDLED)
    lag_s = (conditions.clock.now() - event.time).total_seconds()
    conditions.metrics.count_handled(conditions.group, event.type, max(0.0, lag_s))


async def _pass_on(
    record: Record, error: Exception, verdict: Verdict, tried: int, conditions: Conditions
) -> None:
    """Produce the record to its next topic; keep trying while Kafka does not take it."""
    stack = "".join(traceback.format_exception(error))
    held = conditions.on_failure is OnFailure.HOLD_KEY
    onward = forward(
        verdict=Verdict.DEAD if held else verdict,
        failure=describe(error, stack),
        group=conditions.group,
        ladder=conditions.ladder,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        headers=record.headers,
        now_ms=_now_ms(conditions),
        random_unit=conditions.random.random(),
        tried=tried,
    )
    pause = Pause(conditions)
    while True:
        try:
            await conditions.producer.send(onward.topic, record.key, record.value, onward.headers)
            break
        except ScalelabError as refused:
            if not refused.retryable:
                raise
            await pause.take()
    conditions.reached(CrashPoint.CONSUMER_PASSED_ON)
    counter = conditions.metrics.dead if onward.dead else conditions.metrics.retried
    counter.labels(conditions.group, onward.topic).inc()
    conditions.telemetry.log.warning(
        "event_dead" if onward.dead else "event_to_retry",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        onward=onward.topic,
        error=repr(error),
    )


def _now_ms(conditions: Conditions) -> int:
    return int(conditions.clock.now().timestamp() * 1000)


class Pause:
    """Growing pauses with jitter between half and the whole of the current step."""

    def __init__(self, conditions: Conditions) -> None:
        self._step_s, self._longest_s = conditions.backoff_s
        self._random = conditions.random

    async def take(self) -> None:
        await asyncio.sleep(self._step_s * self._random.uniform(0.5, 1.0))
        self._step_s = min(self._step_s * 2, self._longest_s)
