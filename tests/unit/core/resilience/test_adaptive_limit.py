"""The adaptive limit against a dependency whose capacity is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.resilience.adaptive_limit import Limit, LimitPolicy, new_limit, sample

BASE_S = 0.02


def driven(
    limit: Limit, policy: LimitPolicy, *, capacity: int, calls: int, base_s: float = BASE_S
) -> Limit:
    """`calls` calls while as many are in flight as the limit allows: what is over waits inside."""
    now_s = limit.window.began_s
    for _ in range(calls):
        allowed = limit.calls / 4 if limit.probing else limit.calls
        in_flight = max(1, int(allowed))
        latency_s = base_s * max(1.0, in_flight / capacity)
        now_s += latency_s / in_flight
        limit = sample(limit, policy, latency_s=latency_s, in_flight=in_flight, now_s=now_s)
    return limit


@pytest.mark.parametrize("initial", [2, 10, 100])
def test_it_finds_the_capacity_from_below_and_from_above(initial: int) -> None:
    """Theory: limit = tolerance * capacity + sqrt(limit), about 19 for 10."""
    policy = LimitPolicy(initial=initial)
    found = driven(new_limit(policy, now_s=0.0), policy, capacity=10, calls=40_000)
    assert 10 <= found.calls <= 22


def test_a_dependency_that_became_slower_for_good_is_not_starved() -> None:
    """The probe measures the base again: latency alone would shrink the limit to its minimum."""
    policy = LimitPolicy()
    found = driven(new_limit(policy, now_s=0.0), policy, capacity=10, calls=20_000)
    slower = driven(found, policy, capacity=10, calls=40_000, base_s=4 * BASE_S)
    assert 10 <= slower.calls <= 22


def test_without_a_probe_it_would_be() -> None:
    """What the probe is for."""
    policy = LimitPolicy(initial=5, probe_every=10**9)
    found = driven(new_limit(policy, now_s=0.0), policy, capacity=10, calls=20_000)
    slower = driven(found, policy, capacity=10, calls=40_000, base_s=8 * BASE_S)
    assert slower.calls < 8


def test_dropped_calls_shrink_it_by_a_tenth_a_window() -> None:
    """However quick the others were."""
    policy = LimitPolicy(initial=100, window_calls=2, window_s=0.01)
    limit = new_limit(policy, now_s=0.0)
    limit = sample(limit, policy, latency_s=None, in_flight=100, now_s=0.1)
    limit = sample(limit, policy, latency_s=0.001, in_flight=100, now_s=0.2)
    assert limit.calls == pytest.approx(90)


CALLS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.floats(0.0, 10.0)), st.integers(1, 2000), st.floats(0.0, 1.0)
    ),
    max_size=200,
)


@given(CALLS)
def test_it_stays_within_its_bounds_whatever_is_seen(
    calls: list[tuple[float | None, int, float]],
) -> None:
    """A1."""
    policy = LimitPolicy(initial=20, minimum=4, maximum=60, window_calls=3, probe_every=3)
    limit, now_s = new_limit(policy, now_s=0.0), 0.0
    for latency_s, in_flight, later_s in calls:
        now_s += later_s
        limit = sample(limit, policy, latency_s=latency_s, in_flight=in_flight, now_s=now_s)
        assert 4 <= limit.calls <= 60


@given(st.lists(st.floats(0.001, 5.0), min_size=1, max_size=100))
def test_an_idle_dependency_teaches_nothing(latencies: list[float]) -> None:
    """A3: less than half of the limit was in use."""
    policy = LimitPolicy(initial=20, window_calls=1, window_s=0.01)
    limit = new_limit(policy, now_s=0.0)
    for number, latency_s in enumerate(latencies):
        limit = sample(limit, policy, latency_s=latency_s, in_flight=9, now_s=float(number))
    assert limit.calls == 20


@given(st.lists(st.floats(1.0, 1.5), min_size=1, max_size=100))
def test_good_latency_never_shrinks_a_used_limit(factors: list[float]) -> None:
    """A2."""
    policy = LimitPolicy(window_calls=1, window_s=0.01, probe_every=10**6)
    limit = new_limit(policy, now_s=0.0)
    limit = sample(limit, policy, latency_s=BASE_S, in_flight=20, now_s=1.0)
    for number, factor in enumerate(factors):
        before = limit.calls
        limit = sample(
            limit, policy, latency_s=BASE_S * factor, in_flight=1000, now_s=float(number + 2)
        )
        assert limit.calls >= before
