"""The paired method: turns, ratio of medians, its interval, gates, the A/A control."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.errors import InvalidInput
from scalelab.lab.course.ratio import Ratio, Round, compare, holds, is_void, schedule

costs = st.floats(min_value=1e-3, max_value=1e6)
rounds = st.lists(st.builds(Round, costs, costs), min_size=3, max_size=15)


@given(st.integers(1, 30), st.sampled_from(["A", "B"]))
def test_each_subject_runs_once_a_round_and_the_beginner_changes(count: int, first: str) -> None:
    """I1: A B, B A, A B, … or the other way round."""
    turns = schedule(count, first="A" if first == "A" else "B")
    assert len(turns) == count
    assert all(set(pair) == {"A", "B"} for pair in turns)
    assert turns[0][0] == first
    assert all(one[0] != two[0] for one, two in pairwise(turns))


@given(rounds, st.integers(0, 2**32))
def test_interval_holds_the_ratio_and_is_positive(measured: list[Round], seed: int) -> None:
    """I2."""
    found = compare(measured, random.Random(seed), resamples=100)
    assert 0 < found.low <= found.ratio <= found.high


@given(rounds, st.integers(0, 2**32))
def test_swapping_the_subjects_inverts_the_interval(measured: list[Round], seed: int) -> None:
    """I3."""
    there = compare(measured, random.Random(seed), resamples=100)
    back = compare([Round(r.b, r.a) for r in measured], random.Random(seed), resamples=100)
    assert back.ratio == pytest.approx(1 / there.ratio)
    assert back.low == pytest.approx(1 / there.high)
    assert back.high == pytest.approx(1 / there.low)


def test_same_seed_same_interval() -> None:
    """I4."""
    measured = [Round(10 + i, 5 + i % 3) for i in range(7)]
    assert compare(measured, random.Random(3)) == compare(measured, random.Random(3))


def test_drift_shared_by_a_round_does_not_widen_the_interval() -> None:
    """A machine that slows down threefold slows both sides: the ratio stays 2."""
    drift = [1.0, 1.2, 1.5, 2.0, 2.4, 2.8, 3.0]
    found = compare([Round(20 * d, 10 * d) for d in drift], random.Random(1))
    assert found.ratio == pytest.approx(2.0)
    assert found.low > 0.9
    assert found.rounds == 7


def test_noise_widens_the_interval() -> None:
    """Rounds that disagree say so."""
    calm = compare([Round(20, 10)] * 7, random.Random(1))
    wild = compare([Round(20, 10), Round(60, 10), Round(5, 10)] * 3, random.Random(1))
    assert calm.high - calm.low < 1e-9 < wild.high - wild.low


@pytest.mark.parametrize(
    "measured", [[], [Round(1, 1)] * 2, [Round(1, 1), Round(0, 1), Round(1, 1)]]
)
def test_too_little_or_impossible_is_refused(measured: list[Round]) -> None:
    """Two rounds, or a cost of zero, make no ratio."""
    with pytest.raises(InvalidInput):
        compare(measured, random.Random(1))


@pytest.mark.parametrize(
    ("sense", "gate", "verdict"),
    [
        ("at_least", 1.8, True),
        ("at_least", 2.0, False),
        ("at_most", 2.2, True),
        ("at_most", 2.0, False),
    ],
)
def test_a_gate_is_judged_on_the_unfavourable_end(sense: str, gate: float, verdict: bool) -> None:
    """The point 2.0 passes both gates of 2.0; its interval 1.9 … 2.1 passes neither."""
    found = Ratio(2.0, 1.9, 2.1, 7)
    assert holds(found, "at_least" if sense == "at_least" else "at_most", gate) is verdict


def test_control_arm_voids_a_run_on_a_restless_machine() -> None:
    """A against itself may differ by 5 %, in either direction, and no more."""
    assert not is_void(Ratio(1.04, 1.0, 1.1, 7))
    assert is_void(Ratio(1.06, 1.0, 1.1, 7))
    assert is_void(Ratio(0.9, 0.8, 1.0, 7))
