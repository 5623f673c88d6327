"""Carry out a batch of records together; what fails together is carried out one by one.

A batch that failed tells nothing about which of its events is to blame. So it falls apart: each of
its records is settled as if it had come alone, with the failure policy and the ladder as ever. The
attempt together is not counted as a try. While a dependency is down the whole batch waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from opentelemetry.trace import Link, SpanKind, use_span

from month3_messaging.broker import Event
from month3_messaging.crash_points import CrashPoint
from month3_messaging.workers.batch_plan import Step, plan
from month3_messaging.workers.failure_policy import Verdict, classify
from month3_messaging.workers.handling import Conditions, Pause, settle
from scalelab.clients.kafka import Record
from scalelab.errors import DeadlineExceeded
from scalelab.telemetry import parse

BatchHandler = Callable[[Sequence[Event]], Awaitable[None]]
"""Carries out all events or none; may be called again with any of them, alone or among others."""

_LINKS_MAX = 128
"""Senders' traces that a batch's span names: what OpenTelemetry keeps of a span by default."""


async def settle_together(
    records: Sequence[Record],
    conditions: Conditions,
    handler: BatchHandler,
    settled: Callable[[int], None],
) -> None:
    """Return once `records` need no more attention here; `settled` is told how far it has come.

    conditions: its handlers are for what goes alone. Raises as `handling.settle` does.
    """
    for step in plan(records, conditions.handlers):
        if step.skipped:
            conditions.metrics.skipped.labels(conditions.group).inc(step.skipped)
        if len(step.events) < 2 or not await _is_carried_out(step, conditions, handler):
            for record in step.records:
                await settle(record, conditions)
                settled(record.offset)
        settled(step.through)


async def _is_carried_out(step: Step, conditions: Conditions, handler: BatchHandler) -> bool:
    """Whether all took effect together; False if the batch must fall apart."""
    pause = Pause(conditions)
    while True:
        error = await _attempt(step, conditions, handler)
        if error is None:
            return True
        verdict = classify(error)
        if verdict is Verdict.STOP:
            raise error
        waits = verdict is Verdict.AGAIN_HERE and not isinstance(error, DeadlineExceeded)
        conditions.telemetry.log.warning(
            "batch_waits_for_dependency" if waits else "batch_falls_apart",
            topic=step.records[0].topic,
            partition=step.records[0].partition,
            offset=step.records[0].offset,
            events=len(step.events),
            error=repr(error),
        )
        if not waits:
            conditions.metrics.apart.labels(conditions.group).inc()
            return False
        conditions.metrics.again.labels(conditions.group).inc()
        await pause.take()


async def _attempt(step: Step, conditions: Conditions, handler: BatchHandler) -> Exception | None:
    """One attempt, in a span that names the senders' traces; returns what went wrong."""
    topic = step.records[0].topic
    span = conditions.telemetry.tracer.start_span(
        f"{topic} process",
        kind=SpanKind.CONSUMER,
        attributes={
            "messaging.system": "kafka",
            "messaging.destination.name": topic,
            "messaging.consumer.group.name": conditions.group,
            "messaging.batch.message_count": len(step.events),
        },
        links=_links(step.records) if conditions.telemetry.recording else None,
    )
    with use_span(span, end_on_exit=True):
        try:
            async with conditions.slots:
                await _carry_out(step, conditions, handler)
        except Exception as error:  # noqa: BLE001 (a handler may raise anything; classified next)
            span.record_exception(error)
            return error
    return None


async def _carry_out(step: Step, conditions: Conditions, handler: BatchHandler) -> None:
    conditions.reached(CrashPoint.CONSUMER_RECEIVED)
    limit = asyncio.timeout(conditions.attempt_timeout_s)
    try:
        async with limit:
            await handler(step.events)
    except TimeoutError as error:
        if not limit.expired():
            raise
        # Not for ever the same batch that is too large for its time: alone each has all of it.
        within_s = conditions.attempt_timeout_s
        raise DeadlineExceeded(
            f"{len(step.events)} events were not carried out within {within_s} s"
        ) from error
    conditions.reached(CrashPoint.CONSUMER_HANDLED)
    now = conditions.clock.now()
    conditions.metrics.batches.labels(conditions.group).inc()
    for event in step.events:
        lag_s = (now - event.time).total_seconds()
        conditions.metrics.count_handled(conditions.group, event.type, max(0.0, lag_s))


def _links(records: Sequence[Record]) -> list[Link]:
    sent = (parse(one.headers.get("traceparent"), one.headers.get("tracestate")) for one in records)
    return [Link(context) for context in sent if context is not None][:_LINKS_MAX]
