"""What every rate algorithm promises, in virtual time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.ratelimit import RATE_ALGORITHMS, Ask, Policy, RateAlgorithm
from scalelab.errors import InvalidInput

policies = st.builds(Policy, capacity=st.floats(1, 1000), rate_per_s=st.floats(0.001, 1000))
arrivals = st.lists(
    st.tuples(st.sampled_from([0.0, 0.01, 0.3, 0.5, 0.9, 1.0, 1.7]), st.floats(0.05, 1.0)),
    max_size=60,
)
every_algorithm = pytest.mark.parametrize("algorithm", RATE_ALGORITHMS, ids=lambda one: one.name)


@every_algorithm
@given(policy=policies, arrivals=arrivals)
def test_no_window_admits_more_than_the_bound(
    algorithm: RateAlgorithm, policy: Policy, arrivals: list[tuple[float, float]]
) -> None:
    """I2 of each core for any arrivals; gaps in parts of the policy's window, costs in parts of
    its capacity, so that boundaries and refusals are common."""
    length_s = policy.capacity / policy.rate_per_s
    state, now_s = None, 0.0
    admitted: list[tuple[float, float]] = []
    for gap, part in arrivals:
        now_s += gap * length_s
        cost = part * policy.capacity
        state, decision = algorithm.step(state, Ask(policy, cost), now_s)
        if decision.admitted:
            admitted.append((now_s, cost))
    for first in range(len(admitted)):
        total = 0.0
        for at_s, cost in admitted[first:]:
            total += cost
            t_s = (at_s - admitted[first][0]) * (1 + 1e-9) + 1e-9 * length_s
            assert total <= algorithm.bound(policy, t_s) * (1 + 1e-9)


@every_algorithm
@given(policy=policies, arrivals=arrivals)
def test_a_refused_caller_who_waits_as_told_is_admitted(
    algorithm: RateAlgorithm, policy: Policy, arrivals: list[tuple[float, float]]
) -> None:
    """retry_after_s is enough when nobody else is admitted meanwhile, and never zero."""
    length_s = policy.capacity / policy.rate_per_s
    state, now_s = None, 0.0
    for gap, part in arrivals:
        now_s += gap * length_s
        ask = Ask(policy, part * policy.capacity)
        state, decision = algorithm.step(state, ask, now_s)
        if decision.admitted:
            assert decision.retry_after_s == 0.0
            continue
        assert 0.0 < decision.retry_after_s <= 2 * length_s * (1 + 1e-9) + 1e-6
        later_s = now_s + decision.retry_after_s + 1e-9 * (length_s + now_s)
        assert algorithm.step(state, ask, later_s)[1].admitted


@every_algorithm
@given(policy=policies, arrivals=arrivals, back=st.floats(0, 3))
def test_a_clock_that_steps_back_gives_nothing_away(
    algorithm: RateAlgorithm, policy: Policy, arrivals: list[tuple[float, float]], back: float
) -> None:
    """After a burst that used all, a backward step admits nothing, and no remainder is negative."""
    length_s = policy.capacity / policy.rate_per_s
    now_s = 50.25 * length_s
    state, decision = algorithm.step(None, Ask(policy, policy.capacity), now_s)
    assert decision.admitted
    for _, part in arrivals:
        ask = Ask(policy, part * policy.capacity)
        state, decision = algorithm.step(state, ask, now_s - back * length_s)
        assert not decision.admitted
        assert 0.0 <= decision.remaining <= policy.capacity


@every_algorithm
@pytest.mark.parametrize("cost", [0.0, -1.0, 10.5, math.nan])
def test_a_cost_that_makes_no_sense_is_refused(algorithm: RateAlgorithm, cost: float) -> None:
    """By the check before sending, and by the core itself."""
    ask = Ask(Policy(10, 1), cost)
    with pytest.raises(InvalidInput):
        algorithm.check(ask)
    with pytest.raises(InvalidInput):
        algorithm.step(None, ask, 0.0)
