"""Figures say whether they hold; one that is only shown decides nothing."""

from __future__ import annotations

import pytest

from scalelab.lab.course.bench import Figure, LimitFigure
from scalelab.lab.course.ratio import Ratio, Sense


@pytest.mark.parametrize(
    ("sense", "gate", "good"),
    [
        ("at_least", 4.0, True),
        ("at_least", 4.1, False),
        ("at_most", 6.0, True),
        ("at_most", 5.9, False),
    ],
)
def test_a_ratio_is_judged_by_its_unfavourable_end(sense: Sense, gate: float, good: bool) -> None:
    """A point on the good side proves nothing while the interval reaches over."""
    figure = Figure("b", "ours", "peer", "x", Ratio(5.0, 4.0, 6.0, 7), sense, gate)
    assert figure.holds is good
    assert figure.document()["holds"] is good


@pytest.mark.parametrize(
    ("sense", "limit", "good"),
    [("at_most", 2.0, True), ("at_most", 1.9, False), ("at_least", 2.1, False)],
)
def test_a_value_is_judged_by_its_limit(sense: Sense, limit: float, good: bool) -> None:
    """The limit itself still holds."""
    assert LimitFigure("b", "ours", "ms", 2.0, sense, limit).holds is good


def test_a_value_without_a_limit_is_judged_by_nobody() -> None:
    """It turns no run red, and a program can tell it from one that passed."""
    figure = LimitFigure("b", "control", "ms", 1e9, "at_most", None)
    assert figure.holds
    assert figure.document()["limit"] is None
    assert figure.document()["holds"] is None
