"""Claims about login throttling, in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month6_capstone.identity.throttle import Limits, LoginThrottle
from scalelab.errors import RateLimited

LIMITS = Limits(per_account_and_address=3, per_address=10, window_s=60.0, capacity=100)


def passes(throttle: LoginThrottle, account: str, address: str, now_s: float) -> bool:
    try:
        throttle.charge(account, address, now_s)
    except RateLimited:
        return False
    return True


@given(gaps=st.lists(st.floats(0, 30), max_size=60))
def test_failures_never_exceed_the_limit_and_the_drain(gaps: list[float]) -> None:
    """T1 for any arrival pattern of one guesser."""
    throttle = LoginThrottle(LIMITS)
    now_s, passed = 0.0, 0
    for gap in gaps:
        now_s += gap
        passed += passes(throttle, "demo", "10.0.0.1", now_s)
        assert passed <= 3 * (1 + now_s / 60.0) + 1e-6


def test_the_owner_elsewhere_is_not_locked_out() -> None:
    """Guessing an account from one address leaves it open from another."""
    throttle = LoginThrottle(LIMITS)
    while passes(throttle, "demo", "10.0.0.1", 0.0):
        pass
    assert passes(throttle, "demo", "10.0.0.2", 0.0)


def test_many_accounts_from_one_address_are_slowed_too() -> None:
    """Credential stuffing meets the address's own limit."""
    throttle = LoginThrottle(LIMITS)
    assert sum(passes(throttle, f"user-{n}", "10.0.0.1", 0.0) for n in range(50)) == 10


def test_waiting_as_long_as_told_is_enough() -> None:
    """retry_after_s is neither too short nor endless."""
    throttle = LoginThrottle(LIMITS)
    while passes(throttle, "demo", "10.0.0.1", 0.0):
        pass
    with pytest.raises(RateLimited) as caught:
        throttle.charge("demo", "10.0.0.1", 0.0)
    wait_s = caught.value.retry_after_s
    assert not passes(throttle, "demo", "10.0.0.1", wait_s * 0.9)
    assert passes(throttle, "demo", "10.0.0.1", wait_s + 1e-6)


@given(successes=st.integers(0, 50))
def test_successes_are_free(successes: int) -> None:
    """T3: however often one logs in, the allowance for mistakes is whole."""
    throttle = LoginThrottle(LIMITS)
    for _ in range(successes):
        throttle.charge("demo", "10.0.0.1", 0.0)
        throttle.refund("demo", "10.0.0.1", 0.0)
    assert sum(passes(throttle, "demo", "10.0.0.1", 0.0) for _ in range(10)) == 3


def test_a_refused_attempt_costs_nothing() -> None:
    """Knocking on a shut door does not keep it shut."""
    throttle = LoginThrottle(LIMITS)
    for _ in range(1000):
        passes(throttle, "demo", "10.0.0.1", 0.0)
    assert passes(throttle, "demo", "10.0.0.1", 20.1)


def test_memory_is_bounded() -> None:
    """T2: the longest unused keys are forgotten."""
    throttle = LoginThrottle(LIMITS)
    for n in range(1000):
        passes(throttle, f"user-{n}", f"10.0.{n // 250}.{n % 250}", 0.0)
    assert throttle.remembered <= LIMITS.capacity
