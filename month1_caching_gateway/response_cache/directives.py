"""Cache-Control and HTTP dates, read with doubt: what cannot be understood makes an answer older.

Source: RFC 9111 sections 1.2.2, 4.2.1 and 5.2; RFC 9110 section 5.6.7; differs in: of two values
for one directive the smaller counts; `no-cache` and `private` with a list of fields count as
without one; obsolete date forms are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

MAX_DELTA_S = 2**31
"""RFC 9111 section 1.2.2: what is larger than we can count is this."""

_DIRECTIVE = re.compile(rb'\s*([^\s=,;"]+)(?:\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,"]*))?\s*(?:,|\Z)')
_IMF_FIXDATE = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT\Z"
)
_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


@dataclass(frozen=True, slots=True)
class Directives:
    """Cache-Control of an answer or a request. Durations in seconds, None where not said."""

    no_store: bool = False
    no_cache: bool = False
    private: bool = False
    must_revalidate: bool = False
    only_if_cached: bool = False
    max_age_s: int | None = None
    s_maxage_s: int | None = None
    stale_while_revalidate_s: int | None = None
    stale_if_error_s: int | None = None


NO_DIRECTIVES = Directives()


def read_directives(values: Iterable[bytes]) -> Directives:
    """values: every Cache-Control header, in order. A broken one counts as `no-store`."""
    said: dict[bytes, int | None] = {}
    for value in values:
        at = 0
        while at < len(value):
            found = _DIRECTIVE.match(value, at)
            if found is None:
                if value[at:].strip(b" \t,"):
                    said[b"no-store"] = None
                    break
                at = len(value)
                continue
            at = found.end()
            name, argument = found.group(1).lower(), found.group(2)
            seconds = _delta_s(argument)
            before = said.get(name)
            said[name] = seconds if before is None or seconds is None else min(before, seconds)
    return Directives(
        no_store=b"no-store" in said,
        no_cache=b"no-cache" in said,
        private=b"private" in said,
        # RFC 9111 section 5.2.2.10: for a shared cache s-maxage means proxy-revalidate, too.
        must_revalidate=b"must-revalidate" in said
        or b"proxy-revalidate" in said
        or b"s-maxage" in said,
        only_if_cached=b"only-if-cached" in said,
        max_age_s=_of(said, b"max-age"),
        s_maxage_s=_of(said, b"s-maxage"),
        stale_while_revalidate_s=_of(said, b"stale-while-revalidate"),
        stale_if_error_s=_of(said, b"stale-if-error"),
    )


def _of(said: dict[bytes, int | None], name: bytes) -> int | None:
    """Seconds; 0 for a directive whose argument is no number; None where it was not said."""
    if name not in said:
        return None
    return said[name] or 0


def _delta_s(argument: bytes | None) -> int | None:
    if argument is None:
        return None
    digits = argument[1:-1] if argument.startswith(b'"') else argument
    if not digits.isdigit():
        return 0
    return MAX_DELTA_S if len(digits) > 10 else min(MAX_DELTA_S, int(digits))


def read_date(value: bytes | None) -> datetime | None:
    """An IMF-fixdate as an aware instant; None for anything else."""
    text = "" if value is None else value.decode("latin-1").strip()
    if not _IMF_FIXDATE.match(text):
        return None
    _, day, month, year, clock, _ = text.split(" ")
    hour, minute, second = clock.split(":")
    try:
        return datetime(
            int(year),
            _MONTHS.index(month) + 1,
            int(day),
            int(hour),
            int(minute),
            min(59, int(second)),
            tzinfo=UTC,
        )
    except ValueError:
        return None


def write_date(instant: datetime) -> bytes:
    """The IMF-fixdate of an instant. instant: aware, UTC."""
    return format_datetime(instant, usegmt=True).encode("ascii")
