"""The token bucket in virtual time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.ratelimit import Bucket, Policy, decide, full_after_s
from scalelab.errors import InvalidInput

policies = st.builds(Policy, capacity=st.floats(1, 1000), rate_per_s=st.floats(0.001, 1000))
arrivals = st.lists(st.tuples(st.floats(0, 10), st.floats(0.01, 1.0)), max_size=60)


@given(policy=policies, arrivals=arrivals)
def test_never_admits_more_than_capacity_plus_rate_times_t(
    policy: Policy, arrivals: list[tuple[float, float]]
) -> None:
    """I2 for any arrival pattern, and in every window of it, not only from the start."""
    bucket, now_s = Bucket(policy.capacity, 0.0), 0.0
    admitted: list[tuple[float, float]] = []
    for gap_s, cost in arrivals:
        now_s += gap_s
        bucket, decision = decide(bucket, policy, cost=cost, now_s=now_s)
        if decision.admitted:
            admitted.append((now_s, cost))
    for first in range(len(admitted)):
        total = 0.0
        for at_s, cost in admitted[first:]:
            total += cost
            bound = policy.capacity + policy.rate_per_s * (at_s - admitted[first][0])
            assert total <= bound * (1 + 1e-9)


@given(policy=policies, arrivals=arrivals, back_s=st.floats(0, 100))
def test_tokens_stay_between_zero_and_capacity_when_the_clock_steps_back(
    policy: Policy, arrivals: list[tuple[float, float]], back_s: float
) -> None:
    """I1: a backward step counts as standing still and gives nothing away."""
    bucket, now_s = Bucket(policy.capacity, 50.0), 50.0
    for gap_s, cost in arrivals:
        now_s += gap_s if now_s < 100 else -back_s
        before = bucket
        bucket, _ = decide(bucket, policy, cost=cost, now_s=now_s)
        assert 0.0 <= bucket.tokens <= policy.capacity
        assert bucket.refilled_at_s >= before.refilled_at_s


@given(policy=policies, tokens=st.floats(0, 0.99))
def test_a_refusal_takes_nothing_and_names_the_time_a_retry_succeeds(
    policy: Policy, tokens: float
) -> None:
    """I3, and retry_after_s is neither too early nor late by more than a rounding."""
    bucket, decision = decide(Bucket(tokens, 0.0), policy, cost=1.0, now_s=0.0)
    assert not decision.admitted
    assert bucket.tokens == tokens
    later_s = decision.retry_after_s * (1 + 1e-9) + 1e-9
    assert decide(bucket, policy, cost=1.0, now_s=later_s)[1].admitted
    earlier_s = decision.retry_after_s * 0.9
    if (1.0 - tokens) > 1e-6:
        assert not decide(bucket, policy, cost=1.0, now_s=earlier_s)[1].admitted


@pytest.mark.parametrize("cost", [0.0, -1.0, 10.5, math.nan])
def test_a_cost_that_makes_no_sense_is_refused(cost: float) -> None:
    """More than the capacity could never be admitted; nothing or less could never be refused."""
    with pytest.raises(InvalidInput):
        decide(Bucket(10, 0), Policy(10, 1), cost=cost, now_s=0)


@pytest.mark.parametrize(("capacity", "rate"), [(0.5, 1), (1, 0), (1, -1), (math.inf, 1)])
def test_a_policy_that_can_never_admit_is_refused(capacity: float, rate: float) -> None:
    """The mistake shows when the policy is built, not at the first request."""
    with pytest.raises(InvalidInput):
        Policy(capacity, rate)


def test_shares_add_up_to_the_policy() -> None:
    """Three processes with a third each admit what one would; a share admits at least one."""
    share = Policy(30, 12).share(3)
    assert (share.capacity, share.rate_per_s) == (10, 4)
    assert Policy(2, 1).share(10).capacity == 1.0


def test_an_empty_bucket_is_full_after_capacity_over_rate() -> None:
    """RateLimit-Reset."""
    assert full_after_s(0.0, Policy(10, 4)) == 2.5
    assert full_after_s(10.0, Policy(10, 4)) == 0.0
