"""Claims about which partitions must exist at an instant, and which may go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.partitioning import (
    Cadence,
    Partition,
    Policy,
    Span,
    changes,
    cut_off,
    name_of,
    read_bounds,
    required,
)
from scalelab.errors import InvalidInput

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
instants = st.integers(-(10**9), 7 * 10**9).map(lambda second: NOW + timedelta(seconds=second))
policies = st.builds(
    Policy, st.sampled_from(Cadence), ahead=st.integers(1, 20), keep=st.integers(0, 20)
)


def carried_out(policy: Policy, existing: list[Partition], now: datetime) -> list[Partition]:
    """What exists after the changes."""
    wanted = changes(policy, existing, now)
    kept = [one for one in existing if one not in wanted.retire]
    return kept + [Partition(name_of("t", span), span) for span in wanted.create]


@given(policy=policies, now=instants)
def test_required_spans_touch_and_begin_with_the_present_one(policy: Policy, now: datetime) -> None:
    """P1."""
    spans = required(policy, now)
    assert now in spans[0]
    assert len(spans) == policy.ahead + 1
    assert all(one.end == following.begin for one, following in pairwise(spans))


@given(policy=policies, visits=st.lists(instants, min_size=1, max_size=6))
def test_however_seldom_one_looks_nothing_kept_goes_and_nothing_overlaps(
    policy: Policy, visits: list[datetime]
) -> None:
    """P2, P3, P4, for any instants in order, with gaps of years between them."""
    existing: list[Partition] = []
    for now in sorted(visits):
        wanted = changes(policy, existing, now)
        assert all(one.span.end <= cut_off(policy, now) <= now for one in wanted.retire)
        assert not set(required(policy, now)) & {one.span for one in wanted.retire}
        existing = carried_out(policy, existing, now)
        spans = sorted(one.span for one in existing)
        assert all(one.end <= following.begin for one, following in pairwise(spans))
        again = changes(policy, existing, now)
        assert (again.create, again.retire) == ((), ())


@pytest.mark.parametrize(
    ("cadence", "begin", "end"),
    [
        (Cadence.DAY, "2026-11-27", "2026-11-28"),
        (Cadence.WEEK, "2026-11-23", "2026-11-30"),
        (Cadence.MONTH, "2026-11-01", "2026-12-01"),
    ],
)
def test_a_span_is_a_day_a_week_from_monday_or_a_month(
    cadence: Cadence, begin: str, end: str
) -> None:
    """November 27, 2026 is a Friday."""
    days = (datetime.fromisoformat(f"{day}T00:00Z") for day in (begin, end))
    assert cadence.span_of(NOW) == Span(*days)


def test_days_are_those_of_utc_whatever_zone_an_instant_comes_in() -> None:
    """It is the 28th in Tokyo already."""
    tokyo = datetime(2026, 11, 28, 1, tzinfo=timezone(timedelta(hours=9)))
    assert Cadence.DAY.span_of(tokyo).begin == datetime(2026, 11, 27, tzinfo=UTC)


def test_the_last_kept_month_is_whole() -> None:
    """Two kept before November: September stays, August goes."""
    policy = Policy(Cadence.MONTH, ahead=1, keep=2)
    assert cut_off(policy, NOW) == datetime(2026, 9, 1, tzinfo=UTC)


def test_a_partition_that_has_more_than_a_span_serves_it() -> None:
    """A year, made by hand, has its months."""
    year = Span(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    policy = Policy(Cadence.MONTH, ahead=2, keep=0)
    wanted = changes(policy, [Partition("t_2026", year)], NOW)
    assert [span.begin.year for span in wanted.create] == [2027]


@pytest.mark.parametrize("other", [(10, 20), (25, 35), (27, 28)])
def test_bounds_that_overlap_in_part_are_refused(other: tuple[int, int]) -> None:
    """With another partition, and with a span that is required."""
    first = datetime(2026, 11, 1, tzinfo=UTC)
    begin, end = (first + timedelta(days=days) for days in other)
    here = [Partition("a", Span(begin, end))]
    with pytest.raises(InvalidInput) as refused:
        changes(Policy(Cadence.MONTH, ahead=1, keep=0), here, NOW)
    assert refused.value.stable_code == "overlapping_bounds"
    twice = [*here, Partition("b", Span(begin + timedelta(hours=1), end))]
    with pytest.raises(InvalidInput, match=r"a has .* and b has"):
        changes(Policy(Cadence.MONTH, ahead=1, keep=0), twice, NOW)


def test_what_is_no_span_and_no_policy_is_refused() -> None:
    """Empty, turned round, without a time zone; nothing ahead."""
    naive = NOW.replace(tzinfo=None)
    for begin, end in ((NOW, NOW), (NOW, NOW - timedelta(1)), (naive, naive + timedelta(1))):
        with pytest.raises(InvalidInput):
            Span(begin, end)
    with pytest.raises(InvalidInput):
        Cadence.DAY.span_of(naive)
    for ahead, keep in ((0, 1), (1, -1)):
        with pytest.raises(InvalidInput):
            Policy(Cadence.DAY, ahead=ahead, keep=keep)


def test_bounds_are_read_from_what_the_server_says() -> None:
    """In its session's zone, open on a side, and the default."""
    said = "FOR VALUES FROM ('2026-01-01 09:00:00+09') TO (MAXVALUE)"
    span = read_bounds(said)
    assert span is not None
    assert span.begin == datetime(2026, 1, 1, tzinfo=UTC)
    assert datetime(9999, 1, 1, tzinfo=UTC) in span
    assert read_bounds("DEFAULT") is None


@pytest.mark.parametrize(
    "said",
    [
        "",
        "FOR VALUES IN ('a')",
        "FOR VALUES WITH (modulus 4, remainder 0)",
        "FOR VALUES FROM (1) TO (2)",
        "FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
        "FOR VALUES FROM ('2026-01-01 00:00:00+00', 1) TO ('2026-02-01 00:00:00+00', 1)",
    ],
)
def test_bounds_of_another_kind_are_refused(said: str) -> None:
    """Lists, hashes, numbers, days without a zone, two columns."""
    with pytest.raises(InvalidInput) as refused:
        read_bounds(said)
    assert refused.value.stable_code == "foreign_bounds"
