"""What distinguishes the algorithms: boundaries, the estimate's error, GCRA's equal forms."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.ratelimit import (
    FIXED_WINDOW,
    GCRA,
    SLIDING_WINDOW,
    TOKEN_BUCKET,
    Ask,
    Policy,
    RateAlgorithm,
    dry,
    empty_pair,
    meter_decide,
    pair_decide,
    theoretical_arrival_s,
)
from month1_caching_gateway.ratelimit.sliding_window import passed, turn

POLICY = Policy(capacity=10, rate_per_s=10)


def admitted_of(algorithm: RateAlgorithm, at: list[float]) -> int:
    state: Any = None
    count = 0
    for now_s in at:
        state, decision = algorithm.step(state, Ask(POLICY, 1.0), now_s)
        count += decision.admitted
    return count


@pytest.mark.parametrize(
    ("algorithm", "most"),
    [(FIXED_WINDOW, 20), (SLIDING_WINDOW, 10), (GCRA, 10), (TOKEN_BUCKET, 10)],
    ids=lambda one: getattr(one, "name", None),
)
def test_only_the_fixed_window_admits_twice_its_capacity_at_a_boundary(
    algorithm: RateAlgorithm, most: int
) -> None:
    """Thirty requests just before a boundary and thirty just after it, 0.02 s apart."""
    assert admitted_of(algorithm, [0.99] * 30 + [1.01] * 30) == most


@given(
    arrivals=st.lists(st.tuples(st.floats(0, 1.5), st.floats(0.1, 10)), max_size=60),
)
def test_the_estimate_errs_by_no_more_than_its_bound(arrivals: list[tuple[float, float]]) -> None:
    """I3 of sliding_window.py: -previous * f <= estimate - true <= previous * (1 - f)."""
    pair, now_s = empty_pair(POLICY, now_s=0.0), 0.0
    admitted: list[tuple[float, float]] = []
    for gap_s, cost in arrivals:
        now_s += gap_s
        pair, decision = pair_decide(pair, POLICY, cost=cost, now_s=now_s)
        if decision.admitted:
            admitted.append((now_s, cost))
        seen = turn(pair, POLICY, now_s=now_s)
        part = passed(seen, POLICY, now_s=now_s)
        estimate = seen.previous * (1 - part) + seen.current
        true = sum(cost for at_s, cost in admitted if at_s > now_s - 1.0)
        assert -seen.previous * part - 1e-6 <= estimate - true
        assert estimate - true <= seen.previous * (1 - part) + 1e-6


def test_the_estimate_reaches_both_ends_of_its_error() -> None:
    """The bound is tight: a burst at a window's end is under-weighed, one at its start over."""
    late = [0.99] * 10 + [1.9] * 9
    assert admitted_of(SLIDING_WINDOW, late) == 19
    early = [0.0] * 10 + [1.1]
    assert admitted_of(SLIDING_WINDOW, early) == 11
    assert admitted_of(SLIDING_WINDOW, [0.0] * 10 + [1.05]) == 10


@given(
    capacity=st.integers(1, 50),
    arrivals=st.lists(st.tuples(st.integers(0, 64), st.integers(1, 8)), max_size=60),
)
def test_gcra_admits_what_a_token_bucket_admits(
    capacity: int, arrivals: list[tuple[int, int]]
) -> None:
    """I4 of gcra.py, in numbers that doubles hold exactly."""
    policy = Policy(capacity, 0.25)
    bucket, meter, now_s = None, None, 0.0
    for gap, cost in arrivals:
        now_s += gap / 8
        ask = Ask(policy, min(cost, capacity))
        bucket, by_bucket = TOKEN_BUCKET.step(bucket, ask, now_s)
        meter, by_meter = GCRA.step(meter, ask, now_s)
        assert by_meter == by_bucket


@given(arrivals=st.lists(st.integers(0, 16), max_size=60))
def test_the_theoretical_arrival_is_that_of_the_virtual_scheduling_form(
    arrivals: list[int],
) -> None:
    """The standard's other form, run beside ours: same instant, same decisions."""
    policy = Policy(4, 0.5)
    meter, expected_s, now_s = dry(now_s=0.0), 0.0, 0.0
    for gap in arrivals:
        now_s += gap / 8
        meter, decision = meter_decide(meter, policy, cost=1.0, now_s=now_s)
        conforms = now_s >= expected_s - (policy.capacity - 1) / policy.rate_per_s
        if conforms:
            expected_s = max(now_s, expected_s) + 1 / policy.rate_per_s
        assert decision.admitted is conforms
        assert theoretical_arrival_s(meter, policy) == expected_s


def test_a_refusal_leaves_the_meter_as_it_was() -> None:
    """I3 of gcra.py: a flood of refusals writes nothing."""
    meter, _ = meter_decide(dry(now_s=0.0), POLICY, cost=10, now_s=0.0)
    after, decision = meter_decide(meter, POLICY, cost=1, now_s=0.05)
    assert not decision.admitted
    assert after is meter


@pytest.mark.parametrize("algorithm", [FIXED_WINDOW, SLIDING_WINDOW], ids=lambda one: one.name)
def test_a_longer_window_does_not_lock_a_key_out(algorithm: RateAlgorithm) -> None:
    """A policy changed from 1 s to 100 s windows: the key is free after the new window."""
    state, _ = algorithm.step(None, Ask(POLICY, 10), 1_700_000_050.5)
    slow = Policy(10, 0.1)
    state, decision = algorithm.step(state, Ask(slow, 10), 1_700_000_050.6)
    assert decision.retry_after_s <= 200
    assert algorithm.step(state, Ask(slow, 10), 1_700_000_300.0)[1].admitted
