"""Claims about early loads and stale values (pure)."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.caching.entries import Entry, Kind, Policy
from month1_caching_gateway.caching.freshness import Use, use_of, value_entry
from month1_caching_gateway.caching.xfetch import chance, loads_early
from scalelab.errors import InvalidInput

KEPT = Policy(ttl_s=10.0, stale_while_revalidate_s=5.0, stale_if_error_s=60.0)
UNTIL_MS = 1_000_000
VALUE = Entry(Kind.VALUE, 1, b"x", UNTIL_MS, 100)


@pytest.mark.parametrize(
    ("after_ms", "use"),
    [
        (-1, Use.FRESH),
        (0, Use.BEHIND),
        (4_999, Use.BEHIND),
        (5_000, Use.FALLBACK),
        (59_999, Use.FALLBACK),
        (60_000, Use.NONE),
    ],
)
def test_a_value_is_fresh_then_served_behind_then_kept_for_errors(after_ms: int, use: Use) -> None:
    """The three times of the drawing, to the millisecond."""
    assert use_of(VALUE, KEPT, now_ms=UNTIL_MS + after_ms, draw=0.5) is use


def test_a_fence_is_never_used() -> None:
    """Stale or not: a write has outdated what stood there."""
    fence = Entry(Kind.FENCE, 2)
    assert use_of(fence, KEPT, now_ms=0, draw=0.5) is Use.NONE


@given(now_ms=st.floats(0, 1e13), draw=st.floats(0, 1))
def test_an_entry_that_says_nothing_is_fresh_while_it_stands(now_ms: float, draw: float) -> None:
    """The store's own clock ends it."""
    assert use_of(Entry(Kind.VALUE, 1), KEPT, now_ms=now_ms, draw=draw) is Use.FRESH


@given(draw=st.floats(0, 1), load_ms=st.floats(0, 1e6))
def test_the_entry_stands_as_long_as_anybody_may_use_it(draw: float, load_ms: float) -> None:
    """Fresh time within the jitter, the stale time on top."""
    entry, lifetime = value_entry(KEPT, 7, b"x", now_ms=500.0, load_ms=load_ms, draw=draw)
    fresh_ms = entry.fresh_until_ms - 500
    assert 8_000 - 1 <= fresh_ms <= 10_000
    assert lifetime == fresh_ms + 60_000


def test_without_stale_times_and_early_loads_the_entry_says_nothing() -> None:
    """No clock but the store's is needed."""
    entry, lifetime = value_entry(Policy(), 7, b"x", now_ms=5.0, load_ms=3.0, draw=0.0)
    assert (entry.fresh_until_ms, entry.load_ms, lifetime) == (0, 0, 60_000)


@pytest.mark.parametrize("left_ms", [50.0, 100.0, 300.0])
@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_early_loads_are_as_rare_as_the_paper_says(left_ms: float, beta: float) -> None:
    """20,000 readers: the share that loads early is exp(-t / (beta * load)) within 4.5 sigma."""
    random, readers = Random(3), 20_000
    early = sum(
        loads_early(left_ms=left_ms, load_ms=100.0, beta=beta, draw=random.random())
        for _ in range(readers)
    )
    expected = chance(left_ms=left_ms, load_ms=100.0, beta=beta)
    spread = 4.5 * math.sqrt(readers * expected * (1 - expected))
    assert abs(early - readers * expected) <= spread


@given(draw=st.floats(0, 1), load_ms=st.floats(0, 1e6), beta=st.floats(0, 10))
def test_what_has_ended_is_always_loaded(draw: float, load_ms: float, beta: float) -> None:
    """At the end every reader's dice agree."""
    assert loads_early(left_ms=0.0, load_ms=load_ms, beta=beta, draw=draw)


@given(draw=st.floats(0, 1), left_ms=st.floats(0.001, 1e6))
def test_without_beta_nobody_is_early(draw: float, left_ms: float) -> None:
    """Off is off."""
    assert not loads_early(left_ms=left_ms, load_ms=100.0, beta=0.0, draw=draw)


@pytest.mark.parametrize(
    "wrong", [{"stale_if_error_s": -1.0}, {"stale_while_revalidate_s": -0.1}, {"early_beta": -1.0}]
)
def test_negative_times_are_refused(wrong: dict[str, float]) -> None:
    """They could only be a mistake."""
    with pytest.raises(InvalidInput):
        Policy(**wrong)
