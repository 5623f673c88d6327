"""Which partitions by time must exist at an instant, and which may go. Pure.

Theory of operation
    Time is cut into spans, half open, in UTC: days, weeks from Monday, months. A table needs the
    span of now and some ahead of it, so that the next insert finds its place even if whoever makes
    partitions is away for a while. Whole spans that are older than what is kept go at once.

Invariants (tests cite them)
    P1  Required spans touch one another: every instant from now to the last end has one.
    P2  Nothing is retired whose end is later than the cut-off, nor anything that is required.
    P3  Spans that are created overlap nothing that exists.
    P4  After the changes are made, there are none left to make at that instant.

Absent on purpose: keys of other kinds than instants, and partitions within partitions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import pairwise

from scalelab.errors import InvalidInput

BEGINNING = datetime.min.replace(tzinfo=UTC)
END = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Instants with begin <= instant < end, both aware. Raises InvalidInput for an empty one."""

    begin: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.begin.tzinfo is None or self.end.tzinfo is None:
            raise InvalidInput("a span has a time zone", field="span", code="empty_span")
        if self.begin >= self.end:
            raise InvalidInput(f"nothing is in {self}", field="span", code="empty_span")

    def __str__(self) -> str:
        return f"[{self.begin.isoformat()}, {self.end.isoformat()})"

    def __contains__(self, instant: datetime) -> bool:
        return self.begin <= instant < self.end

    def overlaps(self, other: Span) -> bool:
        """Whether some instant is in both."""
        return self.begin < other.end and other.begin < self.end

    def covers(self, other: Span) -> bool:
        """Whether all of the other is in this one."""
        return self.begin <= other.begin and other.end <= self.end


class Cadence(Enum):
    """How long a span is."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"

    def span_of(self, instant: datetime) -> Span:
        """The span an instant is in. Raises InvalidInput for one without a time zone."""
        if instant.tzinfo is None:
            raise InvalidInput(f"{instant} has no time zone", field="instant")
        day = instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if self is Cadence.DAY:
            return Span(day, day + timedelta(days=1))
        if self is Cadence.WEEK:
            monday = day - timedelta(days=day.weekday())
            return Span(monday, monday + timedelta(days=7))
        first = day.replace(day=1)
        return Span(first, (first + timedelta(days=32)).replace(day=1))

    def before(self, span: Span) -> Span:
        """The span that ends where this one begins."""
        return self.span_of(span.begin - timedelta(microseconds=1))


@dataclass(frozen=True, slots=True)
class Policy:
    """ahead: spans made beyond the present one, >= 1. keep: whole spans before it, >= 0."""

    cadence: Cadence
    ahead: int
    keep: int

    def __post_init__(self) -> None:
        if self.ahead < 1 or self.keep < 0:
            raise InvalidInput(f"one span ahead at least, none kept at least: {self}")


@dataclass(frozen=True, slots=True)
class Partition:
    """A table that holds the rows of one span."""

    name: str
    span: Span


@dataclass(frozen=True, slots=True)
class Changes:
    """What makes a table fit its policy. create: in order of time. retire: oldest first."""

    create: tuple[Span, ...]
    retire: tuple[Partition, ...]


def required(policy: Policy, now: datetime) -> tuple[Span, ...]:
    """The spans that must exist at an instant, in order of time."""
    spans = [policy.cadence.span_of(now)]
    for _ in range(policy.ahead):
        spans.append(policy.cadence.span_of(spans[-1].end))
    return tuple(spans)


def cut_off(policy: Policy, now: datetime) -> datetime:
    """What ended by this instant is no longer kept."""
    span = policy.cadence.span_of(now)
    for _ in range(policy.keep):
        span = policy.cadence.before(span)
    return span.begin


def changes(policy: Policy, existing: Iterable[Partition], now: datetime) -> Changes:
    """What to create and what to retire at an instant.

    Raises InvalidInput (overlapping_bounds) if two that exist overlap, or if one covers a part
    only of a span that is required: someone cut time otherwise, and must say what is meant.
    """
    standing = in_order(existing)
    create = tuple(span for span in required(policy, now) if not is_covered(span, standing))
    oldest = cut_off(policy, now)
    return Changes(create, tuple(one for one in standing if one.span.end <= oldest))


def is_covered(span: Span, standing: Sequence[Partition]) -> bool:
    """Whether a partition has all of the span. Raises InvalidInput if one has a part of it."""
    for one in standing:
        if one.span.covers(span):
            return True
        if one.span.overlaps(span):
            raise _overlapping(f"{one.name} has {one.span}, which overlaps {span} in part")
    return False


def in_order(existing: Iterable[Partition]) -> list[Partition]:
    """In order of time. Raises InvalidInput (overlapping_bounds) if two of them overlap."""
    standing = sorted(existing, key=lambda one: one.span)
    for one, following in pairwise(standing):
        if one.span.overlaps(following.span):
            raise _overlapping(
                f"{one.name} has {one.span} and {following.name} has {following.span}"
            )
    return standing


def name_of(table: str, span: Span) -> str:
    """The partition's name: the table's, and the day on which it begins."""
    return f"{table}_p{span.begin.astimezone(UTC):%Y%m%d}"


def _overlapping(what: str) -> InvalidInput:
    return InvalidInput(f"bounds overlap: {what}", field="span", code="overlapping_bounds")
