"""The experiments on concurrency hold in their short form."""

from __future__ import annotations

from pathlib import Path

import pytest

from month3_messaging.experiments import fork_join, shared_state_race, thread_pools
from scalelab.lab.course.experiment import Experiment, Lab
from scalelab.lab.runtime import Runtime


@pytest.mark.parametrize(
    "experiment",
    [thread_pools.EXPERIMENT, shared_state_race.EXPERIMENT, fork_join.EXPERIMENT],
    ids=lambda experiment: experiment.slug,
)
def test_every_claim_holds(experiment: Experiment, tmp_path: Path, server_root: Path) -> None:
    """With servers of its own: one of them is stopped."""
    with Runtime(server_root / experiment.slug, private=True) as runtime:
        result = experiment.run(Lab(True, runtime, tmp_path, 1, lambda _note: None))
    assert [claim for claim in result.shape if not claim.holds] == []
