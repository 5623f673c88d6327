"""Retry-After: for how long a service asks to be left alone. Pure.

Two forms: seconds, or a date. A date is read against the answer's own Date, because the two come
from one clock; ours may be wrong. Whatever is asked for is bounded: one answer must not silence a
client for a day. Source: RFC 9110 sections 10.2.3 and 5.6.7.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_DIGITS_MAX = 9


def asked_wait_s(headers: Mapping[str, str], *, now: datetime, at_most_s: float) -> float | None:
    """Seconds to stay away, 0..at_most_s; None if the answer asks for nothing that can be read.

    headers: names in lower case. now: aware; counts where the answer has no readable Date.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(
            float(value[:_DIGITS_MAX]) if len(value) <= _DIGITS_MAX else at_most_s, at_most_s
        )
    until = _instant(value)
    if until is None:
        return None
    said_at = _instant(headers.get("date", "")) or now
    return min(max(0.0, (until - said_at).total_seconds()), at_most_s)


def _instant(value: str) -> datetime | None:
    try:
        instant = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError):
        return None
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant
