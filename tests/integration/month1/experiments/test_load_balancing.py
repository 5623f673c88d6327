"""The experiment's short version, on real processes and a real nginx: its claims hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from month1_caching_gateway.experiments.load_balancing import EXPERIMENT, NGINX, POLICIES
from scalelab.lab.course.experiment import Lab
from scalelab.lab.runtime import Runtime


@pytest.mark.nightly
def test_picks_by_load_spare_the_slow_backend_and_checks_the_frozen_one(
    runtime: Runtime, tmp_path: Path
) -> None:
    """Every claim holds, and every arm was measured."""
    notes: list[str] = []
    lab = Lab(quick=True, runtime=runtime, folder=tmp_path, seed=1, note=notes.append)
    result = EXPERIMENT.run(lab)
    assert [claim.measured for claim in result.shape if not claim.holds] == []
    names = [arm.name for arm in result.arms]
    assert names[: len(POLICIES) + len(NGINX)] == [*POLICIES, *NGINX]
    assert len(notes) == len(POLICIES) + len(NGINX)
