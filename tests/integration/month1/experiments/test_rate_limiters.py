"""The experiment's short version, on a real Redis: its claims hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from month1_caching_gateway.experiments.rate_limiters import CAPACITY, EXPERIMENT
from month1_caching_gateway.ratelimit import RATE_ALGORITHMS
from scalelab.lab.course.experiment import Lab
from scalelab.lab.runtime import Runtime


def test_only_the_fixed_window_lets_twice_its_capacity_through(
    runtime: Runtime, tmp_path: Path
) -> None:
    """Every claim holds; the arms are the algorithms, under the same arrivals."""
    notes: list[str] = []
    lab = Lab(quick=True, runtime=runtime, folder=tmp_path, seed=1, note=notes.append)
    result = EXPERIMENT.run(lab)
    assert [claim.measured for claim in result.shape if not claim.holds] == []
    assert [arm.name for arm in result.arms] == [one.name for one in RATE_ALGORITHMS]
    figures = {arm.name: arm.figures for arm in result.arms}
    assert figures["fixed_window"]["most_in_a_short_span"] == pytest.approx(2 * CAPACITY, rel=0.25)
    assert len({one["offered"] for one in figures.values()}) == 1
    assert notes
