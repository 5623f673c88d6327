"""The envelope of every event: CloudEvents 1.0 in Kafka's binary mode.

Wire form
    header              value                                   required
    ce_specversion      1.0                                     yes
    ce_id               UUID; one per fact, the same on every   yes
                        delivery of it: consumers deduplicate
                        on it
    ce_type             orders.order.placed.v1                  yes
    ce_source           /orders                                 yes
    ce_subject          what the event is about (order id)      yes
    ce_time             RFC 3339, UTC                           yes
    ce_partitionkey     equals ce_subject, and the Kafka key    written, not demanded
    content-type        application/json                        written; another one is refused
    traceparent         W3C trace context                       no
    value               one JSON object, UTF-8

A version is part of the type. New optional members of `data` need no new version: readers ignore
what they do not know. A new required member does.

Absent on purpose: structured mode, batches, a schema registry.
Source: CloudEvents 1.0.2, Kafka protocol binding 1.0.2 section 3.2; differs in: subject and time
are required.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

from scalelab.errors import CorruptData, InvalidInput

SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/json"

VALUE_BYTES_MAX = 512 * 1024
"""Largest encoded `data`, in bytes: half of Kafka's default limit for one record, so that an event
that was accepted can always be sent."""


@dataclass(frozen=True, slots=True)
class Event:
    """One fact in the past tense.

    id: the same on every delivery. type: `<context>.<thing>.<happening>.v<n>`. source: URI
    reference of the producer. subject: the aggregate's id, which is the ordering key. time: aware.
    data: a JSON object. traceparent: the trace in which the fact came about, if any.
    """

    id: UUID
    type: str
    source: str
    subject: str
    time: datetime
    data: Mapping[str, object]
    traceparent: str | None = None


def to_headers(event: Event) -> dict[str, str]:
    """Kafka headers of `event`. Raises InvalidInput if `time` has no zone or a text is empty."""
    if event.time.tzinfo is None:
        raise InvalidInput("an event's time needs a zone", field="time")
    for name, text in (("type", event.type), ("source", event.source), ("subject", event.subject)):
        if not text:
            raise InvalidInput(f"an event's {name} must not be empty", field=name)
    headers = {
        "ce_specversion": SPEC_VERSION,
        "ce_id": str(event.id),
        "ce_type": event.type,
        "ce_source": event.source,
        "ce_subject": event.subject,
        "ce_time": event.time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "ce_partitionkey": event.subject,
        "content-type": CONTENT_TYPE,
    }
    if event.traceparent:
        headers["traceparent"] = event.traceparent
    return headers


def to_value(event: Event) -> bytes:
    """The Kafka value: compact JSON, keys sorted, so that equal data are equal bytes.

    Raises InvalidInput if `data` is not JSON (NaN included) or is over VALUE_BYTES_MAX.
    """
    try:
        text = json.dumps(
            dict(event.data),
            ensure_ascii=False,
            allow_nan=False,
            sort_keys=True,
            separators=(",", ":"),
        )
        value = text.encode()
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"data of {event.type} is not JSON: {error}", field="data") from error
    if len(value) > VALUE_BYTES_MAX:
        raise InvalidInput(
            f"data of {event.type} has {len(value)} bytes, over {VALUE_BYTES_MAX}", field="data"
        )
    return value


def from_wire(headers: Mapping[str, str], value: bytes | None) -> Event:
    """The event in a Kafka record.

    Raises CorruptData, naming the first thing that is missing or malformed: the record was not
    written by us, or is damaged; trying again cannot help.
    """
    version = _required(headers, "ce_specversion")
    if version != SPEC_VERSION:
        raise CorruptData(f"ce_specversion is {version!r}, expected {SPEC_VERSION!r}")
    content_type = headers.get("content-type", CONTENT_TYPE)
    if content_type.partition(";")[0].strip() != CONTENT_TYPE:
        raise CorruptData(f"content-type is {content_type!r}, expected {CONTENT_TYPE!r}")
    return Event(
        id=_parse_id(_required(headers, "ce_id")),
        type=_required(headers, "ce_type"),
        source=_required(headers, "ce_source"),
        subject=_required(headers, "ce_subject"),
        time=_parse_time(_required(headers, "ce_time")),
        data=_parse_data(value),
        traceparent=headers.get("traceparent"),
    )


def _required(headers: Mapping[str, str], name: str) -> str:
    text = headers.get(name, "")
    if not text:
        raise CorruptData(f"header {name} is missing")
    return text


def _parse_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise CorruptData(f"ce_id {text[:80]!r} is not a UUID") from error


def _parse_time(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise CorruptData(f"ce_time {text[:80]!r} is not RFC 3339") from error
    if instant.tzinfo is None:
        raise CorruptData(f"ce_time {text[:80]!r} has no zone")
    return instant.astimezone(UTC)


def _parse_data(value: bytes | None) -> Mapping[str, object]:
    if value is None:
        raise CorruptData("the record has no value")
    try:
        data: object = _JSON.decode(value.decode())
    except (ValueError, RecursionError) as error:
        raise CorruptData(f"the value is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise CorruptData(f"the value is a JSON {type(data).__name__}, expected an object")
    return cast("dict[str, object]", data)


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(parse_constant=_refuse_constant)
"""Made once: json.loads would make one for every value, and guess at an encoding."""
