"""Driving paired rounds."""

from __future__ import annotations

import pytest

from scalelab.lab.course.ratio import Round
from scalelab.lab.course.rounds import Measure, cpu_us_per_operation, paired


def test_subjects_take_turns_and_the_warm_up_round_is_dropped() -> None:
    """Three kept rounds are four: A B, B A, A B, B A; the first one's numbers are gone."""
    order: list[str] = []

    def subject(name: str) -> Measure:
        def measure(seconds: float) -> float:
            assert seconds == 0.25
            order.append(name)
            return float(len(order))

        return measure

    kept = paired(subject("A"), subject("B"), rounds=3, round_s=0.25)
    assert "".join(order) == "ABBAABBA"
    assert kept == [Round(4, 3), Round(5, 6), Round(8, 7)]


def test_a_wrong_answer_ends_the_run() -> None:
    """What a subject raises is not swallowed: it is no measurement."""

    def broken(_seconds: float) -> float:
        raise AssertionError("wrong checksum")

    with pytest.raises(AssertionError, match="wrong checksum"):
        paired(broken, broken, rounds=1, round_s=0.1)


def test_cost_is_positive_and_counts_operations() -> None:
    """The measure asks for whole batches and returns a cost above zero."""
    done: list[int] = []
    assert cpu_us_per_operation(done.append, batch=8)(0.001) > 0
    assert done
    assert set(done) == {8}
