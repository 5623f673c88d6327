"""The delay of a hedge, and its budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month3_messaging.fan import HedgePolicy, Hedging
from scalelab.errors import InvalidInput


def test_until_enough_is_known_the_delay_is_the_first_one() -> None:
    """A percentile of three waits says nothing."""
    hedging = Hedging(HedgePolicy(least=5, first_delay_s=0.7))
    for _ in range(4):
        hedging.waited(0.001)
    assert hedging.delay_s == 0.7
    hedging.waited(0.001)
    assert hedging.delay_s == 0.001


def test_the_delay_is_the_quantile_of_the_window() -> None:
    """95 of the last 100 waits are shorter; older ones are forgotten."""
    hedging = Hedging(HedgePolicy(window=100, least=10))
    for wait in range(1000):
        hedging.waited(float(wait))
    assert hedging.delay_s == 995.0


@given(st.lists(st.booleans(), max_size=300), st.sampled_from([0.0, 0.05, 0.5, 1.0]))
def test_hedges_stay_within_their_share(wanted: list[bool], share: float) -> None:
    """F5, for any order of requests that want one: burst + share * n."""
    hedging = Hedging(HedgePolicy(share=share, burst=2))
    granted = 0
    for number, wants in enumerate(wanted, start=1):
        hedging.begun()
        granted += wants and hedging.take()
        assert granted <= 2 + share * number


def test_what_was_not_spent_is_saved_up_to_the_burst_only() -> None:
    """A quiet hour does not pay for a storm."""
    hedging = Hedging(HedgePolicy(share=1.0, burst=3))
    for _ in range(1000):
        hedging.begun()
    assert [hedging.take() for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"quantile": 1.0}, "quantile"),
        ({"share": 1.5}, "share"),
        ({"burst": 0.5}, "burst"),
        ({"least": 5, "window": 4}, "least"),
    ],
)
def test_a_policy_without_sense_is_refused(wrong: dict[str, float], field: str) -> None:
    """By the name of its field."""
    with pytest.raises(InvalidInput) as refused:
        HedgePolicy(**wrong)  # type: ignore[arg-type]
    assert refused.value.field == field
