"""The experiments of the archive, quick: all they claim is counted, so it is asserted."""

from __future__ import annotations

from pathlib import Path

import pytest

from month2_databases.experiments import hot_cold_storage, object_storage, olap_vs_oltp
from scalelab.lab.course.experiment import Experiment, Lab
from scalelab.lab.runtime import Runtime


@pytest.mark.parametrize(
    "experiment",
    [hot_cold_storage.EXPERIMENT, object_storage.EXPERIMENT, olap_vs_oltp.EXPERIMENT],
    ids=lambda one: one.slug,
)
def test_every_claim_about_stored_orders_holds(
    runtime: Runtime, versitygw_built: None, tmp_path: Path, experiment: Experiment
) -> None:
    """On private servers, beside whatever else runs."""
    lab = Lab(quick=True, runtime=runtime, folder=tmp_path, seed=1, note=lambda _: None)
    assert [one.claim for one in experiment.run(lab).shape if not one.holds] == []
