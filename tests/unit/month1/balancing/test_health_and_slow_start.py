"""Active health and slow start, in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.balancing import (
    FLOOR,
    Health,
    HealthPolicy,
    next_check_s,
    observe,
    ramped_weight,
)
from scalelab.errors import InvalidInput


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 4), st.integers(1, 4))
def test_a_change_needs_so_many_checks_in_a_row(results: list[bool], fall: int, rise: int) -> None:
    """I1: every change but the first check's is preceded by its run of checks that say so."""
    policy = HealthPolicy(fall=fall, rise=rise)
    health = Health()
    for number, good in enumerate(results):
        before, health = health, observe(health, policy, good=good)
        if number == 0:
            assert health.up is good
        elif before.up is not health.up:
            needed = rise if health.up else fall
            assert results[number + 1 - needed : number + 1] == [health.up] * needed


def test_one_lost_check_changes_nothing() -> None:
    """Down after two in a row, not after two in all."""
    policy = HealthPolicy(fall=2)
    health = Health()
    for good in (True, False, True, False, True):
        health = observe(health, policy, good=good)
        assert health.up
    assert not observe(observe(health, policy, good=False), policy, good=False).up


@given(st.floats(0, 1), st.floats(0, 0.9))
def test_checks_are_spread_around_their_interval(unit: float, jitter: float) -> None:
    """I2."""
    wait_s = next_check_s(HealthPolicy(interval_s=10.0, jitter=jitter), unit)
    assert 10.0 * (1 - jitter) - 1e-9 <= wait_s <= 10.0 * (1 + jitter) + 1e-9


@given(
    st.floats(0.1, 100),
    st.floats(0.1, 60),
    st.lists(st.floats(0, 5), min_size=1, max_size=40),
)
def test_the_weight_of_who_returns_only_grows(
    weight: float, slow_start_s: float, steps: list[float]
) -> None:
    """I1: monotone, between its floor and its own, and whole at the end."""
    now_s, last = 0.0, 0.0
    for step_s in steps:
        now_s += step_s
        found = ramped_weight(weight, away_ended_s=0.0, slow_start_s=slow_start_s, now_s=now_s)
        assert last <= found <= weight
        assert found >= FLOOR * weight
        last = found
    assert ramped_weight(weight, away_ended_s=0.0, slow_start_s=slow_start_s, now_s=61.0) == weight


def test_without_a_slow_start_the_weight_is_whole_at_once() -> None:
    """0 s switches it off."""
    assert ramped_weight(2.0, away_ended_s=5.0, slow_start_s=0.0, now_s=5.0) == 2.0


@pytest.mark.parametrize(
    "wrong",
    [{"path": "x"}, {"path": "/a b"}, {"interval_s": 0}, {"jitter": 1.0}, {"fall": 0}],
)
def test_a_check_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    """Before anything is started."""
    with pytest.raises(InvalidInput):
        HealthPolicy(**wrong)  # type: ignore[arg-type]
