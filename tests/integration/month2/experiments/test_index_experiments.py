"""The experiments `btree` and `indexing`, quick: all they claim is counted, so it is asserted."""

from __future__ import annotations

from pathlib import Path

import pytest

from month2_databases.experiments import btree, indexing
from scalelab.lab.course.experiment import Experiment, Lab
from scalelab.lab.runtime import Runtime


@pytest.mark.parametrize("experiment", [btree.EXPERIMENT, indexing.EXPERIMENT])
def test_every_claim_about_indexes_holds(
    runtime: Runtime, tmp_path: Path, experiment: Experiment
) -> None:
    """On private servers, beside whatever else runs."""
    lab = Lab(quick=True, runtime=runtime, folder=tmp_path, seed=1, note=lambda _: None)
    assert [one.claim for one in experiment.run(lab).shape if not one.holds] == []


def test_a_second_run_in_the_same_folder_starts_from_nothing(
    runtime: Runtime, tmp_path: Path
) -> None:
    """The folder of an experiment stays from run to run, with the trees of the one before."""
    lab = Lab(quick=True, runtime=runtime, folder=tmp_path, seed=1, note=lambda _: None)
    assert btree.grow_all(lab) == btree.grow_all(lab)
    assert list(tmp_path.iterdir()) == []
