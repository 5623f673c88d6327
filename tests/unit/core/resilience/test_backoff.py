"""Full jitter and the retry budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.resilience.backoff import Backoff, BudgetPolicy, earn, full_purse, spend

UNIT = st.floats(0, 1)


@given(st.integers(1, 5000), UNIT)
def test_a_delay_is_never_negative_nor_above_the_cap(retry: int, unit: float) -> None:
    """I1 for any retry number, also where the growth would overflow."""
    backoff = Backoff(first_s=0.05, factor=2.0, cap_s=2.0)
    assert 0 <= backoff.delay_s(retry, unit) <= 2.0


def test_the_ceiling_grows_until_the_cap() -> None:
    """The ceilings double and then stand still."""
    backoff = Backoff(first_s=0.1, factor=2.0, cap_s=0.5)
    assert [backoff.ceiling_s(n) for n in (1, 2, 3, 4)] == [0.1, 0.2, 0.4, 0.5]


@given(st.lists(st.booleans(), max_size=300), UNIT, st.floats(0, 20))
def test_retries_stay_within_reserve_plus_ratio(
    wants_retry: list[bool], ratio: float, reserve: float
) -> None:
    """I2 for any mix of calls and wishes to retry (I3: refusals cost nothing)."""
    policy = BudgetPolicy(ratio, reserve)
    purse, granted = full_purse(policy), 0
    for calls, wish in enumerate(wants_retry, start=1):
        purse = earn(purse, policy)
        if wish:
            before = purse
            purse, was_granted = spend(purse)
            granted += was_granted
            assert was_granted or purse == before
        assert granted <= reserve + ratio * calls + 1e-6


@pytest.mark.parametrize("values", [(-1.0, 2.0, 1.0), (0.1, 0.5, 1.0), (1.0, 2.0, 0.5)])
def test_a_senseless_backoff_is_refused(values: tuple[float, float, float]) -> None:
    """Negative, shrinking or capped below its start."""
    with pytest.raises(ValueError, match="backoff"):
        Backoff(*values)
