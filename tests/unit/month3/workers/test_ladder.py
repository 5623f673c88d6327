"""Waits that grow and are drawn: the ladder's arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month3_messaging.workers.ladder import (
    DEFAULT_LADDER,
    TRIES_MAX,
    RetryStep,
    ladder_of,
    suffix_of,
    wait_s,
)
from scalelab.errors import InvalidInput
from scalelab.resilience import Backoff

BACKOFFS = st.builds(
    Backoff,
    first_s=st.floats(0.001, 100),
    factor=st.floats(1, 20),
    cap_s=st.floats(100, 3600),
)


@given(BACKOFFS, st.integers(1, TRIES_MAX), st.floats(0, 1))
def test_waits_grow_to_the_cap_and_are_drawn_below_it(
    backoff: Backoff, tries: int, random_unit: float
) -> None:
    """F1 to F3 for any setting."""
    ladder = ladder_of(backoff, tries=tries)
    assert len(ladder) == tries - 1
    longest = [step.delay_s for step in ladder]
    assert longest == sorted(longest)
    for step in ladder:
        assert 0 <= wait_s(step, random_unit) <= step.delay_s <= backoff.cap_s


def test_the_default_is_five_seconds_and_a_minute() -> None:
    """Then dead, at the third try."""
    assert list(DEFAULT_LADDER) == [RetryStep("5s", 5.0), RetryStep("1m", 60.0)]


def test_rungs_at_the_cap_share_a_topic() -> None:
    """1, 4, 10, 10 s: two rungs are one name."""
    ladder = ladder_of(Backoff(first_s=1, factor=4, cap_s=10), tries=5)
    assert [step.suffix for step in ladder] == ["1s", "4s", "10s", "10s"]


@pytest.mark.parametrize("tries", [0, TRIES_MAX + 1])
def test_more_tries_than_five_are_refused(tries: int) -> None:
    """And fewer than one: poison is parked within five."""
    with pytest.raises(InvalidInput):
        ladder_of(Backoff(), tries=tries)


@given(st.integers(1, 10_000_000), st.integers(1, 10_000_000))
def test_different_waits_have_different_names(one_ms: int, other_ms: int) -> None:
    """Else one rung's events would wait another's time."""
    same = suffix_of(one_ms / 1000) == suffix_of(other_ms / 1000)
    assert same == (one_ms == other_ms)
