"""How old an answer can be, by one clock."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.replication.lsn_clock import (
    PAGE_BYTES,
    SAMPLES_MAX,
    LsnClock,
    end_of_record,
    observe,
    stale_bound_s,
)

# Steps of (seconds since the last one, bytes written meanwhile).
STEPS = st.lists(st.tuples(st.floats(0.001, 1.0), st.integers(0, 5000)), min_size=1, max_size=40)


def looked(*samples: tuple[float, int]) -> LsnClock:
    clock = LsnClock()
    for asked_at_s, lsn in samples:
        clock = observe(clock, timeline=1, lsn=lsn, asked_at_s=asked_at_s)
    return clock


@given(STEPS, st.integers(0, 10_000), st.floats(0.0, 0.5))
def test_everything_older_than_the_bound_is_shown(
    steps: list[tuple[float, int]], replayed: int, late_s: float
) -> None:
    """I1: no commit at or before `now - bound` stands behind the replica's position."""
    clock, now_s, lsn = LsnClock(), 0.0, 100
    history: list[tuple[float, int]] = []
    for pause_s, written in steps:
        now_s, lsn = now_s + pause_s, lsn + written
        history.append((now_s, lsn))
        # Asked at now_s; the answer may already hold what is written until it comes back.
        clock = observe(clock, timeline=1, lsn=lsn, asked_at_s=now_s)
    bound_s = stale_bound_s(clock, timeline=1, replayed_lsn=replayed, now_s=now_s + late_s)
    for at_s, end in history:
        if at_s <= now_s + late_s - bound_s:
            assert end_of_record(end) <= replayed


def test_the_latest_instant_that_a_replica_covers_counts() -> None:
    """The picture of the module's docstring."""
    clock = looked((10.00, 100), (10.05, 210), (10.10, 210), (10.15, 380))
    bound_s = stale_bound_s(clock, timeline=1, replayed_lsn=210, now_s=10.18)
    assert bound_s == pytest.approx(0.08)


def test_an_idle_primary_keeps_its_replicas_fresh() -> None:
    """I2: nothing to replay is no lag."""
    clock = looked(*((float(second), 500) for second in range(100)))
    assert len(clock.samples) == 1
    assert stale_bound_s(clock, timeline=1, replayed_lsn=500, now_s=99.5) == pytest.approx(0.5)


def test_a_silent_primary_lets_every_bound_grow() -> None:
    """I3."""
    clock = looked((1.0, 100))
    assert stale_bound_s(clock, timeline=1, replayed_lsn=100, now_s=61.0) == pytest.approx(60.0)


def test_what_is_behind_all_samples_is_infinitely_stale() -> None:
    """I4: and the samples are bounded."""
    clock = looked(*((number * 0.05, 1000 + 100 * number) for number in range(SAMPLES_MAX + 50)))
    assert len(clock.samples) == SAMPLES_MAX
    assert stale_bound_s(clock, timeline=1, replayed_lsn=1000, now_s=100.0) == math.inf


def test_another_timeline_is_unknown_and_begins_anew() -> None:
    """I5."""
    clock = looked((1.0, 100), (2.0, 200))
    assert stale_bound_s(clock, timeline=2, replayed_lsn=10**9, now_s=2.1) == math.inf
    clock = observe(clock, timeline=2, lsn=150, asked_at_s=3.0)
    assert stale_bound_s(clock, timeline=2, replayed_lsn=150, now_s=3.5) == pytest.approx(0.5)
    assert clock.end_lsn(1) is None
    assert clock.end_lsn(2) == 150


@pytest.mark.parametrize("header_bytes", [24, 40])
def test_a_position_behind_a_page_header_is_the_page_start(header_bytes: int) -> None:
    """The server says where the next record will begin; the replica, where the last one ended."""
    assert end_of_record(7 * PAGE_BYTES + header_bytes) == 7 * PAGE_BYTES
    assert end_of_record(7 * PAGE_BYTES + header_bytes + 8) == 7 * PAGE_BYTES + header_bytes + 8
