"""What second tries and second copies may cost, in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.balancing import Budget, HedgePolicy, Latencies, Purse, may_hedge
from scalelab.errors import InvalidInput

budgets = st.builds(
    Budget, share=st.floats(0, 1), min_per_s=st.floats(0, 20), burst=st.floats(0, 20)
)
steps = st.lists(st.tuples(st.floats(0, 2), st.integers(0, 5), st.integers(0, 5)), max_size=60)


@given(budgets, steps)
def test_retries_never_exceed_their_budget(
    budget: Budget, steps: list[tuple[float, int, int]]
) -> None:
    """I1 in every window of any pattern: burst + share of its requests + so many a second."""
    purse, now_s = Purse(budget, now_s=0.0), 0.0
    granted: list[tuple[float, int]] = []
    history: list[tuple[float, int, int]] = []
    for gap_s, requests, wanted in steps:
        now_s += gap_s
        purse.requests += requests
        got = sum(purse.spend(now_s=now_s) for _ in range(wanted))
        history.append((now_s, requests, got))
        granted.append((now_s, got))
    for first in range(len(history)):
        retries = requests = 0
        for at_s, asked, got in history[first:]:
            retries += got
            requests += asked
            passed_s = at_s - history[first][0]
            bound = budget.burst + budget.share * requests + budget.min_per_s * passed_s
            assert retries <= bound + 1e-6


def test_a_busy_client_retries_a_fifth_of_its_requests() -> None:
    """After the burst is gone, 20 % and no more."""
    purse = Purse(Budget(share=0.2, min_per_s=0.0, burst=10.0), now_s=0.0)
    granted = 0
    for _ in range(1000):
        purse.requests += 1
        granted += purse.spend(now_s=0.0)
    assert granted in range(205, 212)


def test_a_quiet_client_gets_its_tokens_from_time() -> None:
    """A refused retry costs nothing; a second later there are three tokens."""
    purse = Purse(Budget(share=0.0, min_per_s=3.0, burst=3.0), now_s=0.0)
    assert [purse.spend(now_s=0.0) for _ in range(5)] == [True, True, True, False, False]
    assert [purse.spend(now_s=1.0) for _ in range(4)] == [True, True, True, False]


def test_nothing_is_hedged_before_enough_was_seen() -> None:
    """I1."""
    policy, latencies = HedgePolicy(min_samples=10), Latencies()
    for _ in range(9):
        latencies.add(0.01)
    assert latencies.delay_s(policy) is None
    latencies.add(0.01)
    assert latencies.delay_s(policy) is not None


@given(st.lists(st.floats(1e-5, 1.9), min_size=20, max_size=300), st.floats(0.5, 0.99))
def test_the_delay_is_the_quantile_or_an_eighth_above(seen: list[float], quantile: float) -> None:
    """I2 for any latencies."""
    policy = HedgePolicy(quantile=quantile, min_samples=1, min_delay_s=1e-6, max_delay_s=3.0)
    latencies = Latencies()
    for seconds in seen:
        latencies.add(seconds)
    delay_s = latencies.delay_s(policy)
    assert delay_s is not None
    ordered = sorted(seen)
    rank = -int(-quantile * len(ordered) // 1)
    exact = ordered[rank - 1]
    assert exact <= delay_s + 1e-9
    assert delay_s <= exact * 1.125 + 2e-6


def test_the_delay_follows_a_service_that_became_faster() -> None:
    """Old observations lose their weight."""
    policy, latencies = HedgePolicy(), Latencies()
    for _ in range(4000):
        latencies.add(1.0)
    for _ in range(20_000):
        latencies.add(0.01)
    delay_s = latencies.delay_s(policy)
    assert delay_s is not None
    assert delay_s < 0.02


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_what_may_change_something_is_never_hedged(method: str) -> None:
    """I3: an idempotent PUT, too: two copies may overtake a third one's write."""
    assert not may_hedge(method)
    assert may_hedge("GET")


def test_policies_that_make_no_sense_are_refused() -> None:
    """Each with its field."""
    with pytest.raises(InvalidInput):
        Budget(share=-0.1)
    with pytest.raises(InvalidInput):
        HedgePolicy(quantile=1.0)
    with pytest.raises(InvalidInput):
        HedgePolicy(min_delay_s=3.0, max_delay_s=1.0)
