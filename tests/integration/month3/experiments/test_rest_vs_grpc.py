"""The experiment rest-vs-grpc holds in its short form."""

from __future__ import annotations

from pathlib import Path

from month3_messaging.experiments.rest_vs_grpc import EXPERIMENT
from scalelab.lab.course.experiment import Lab
from scalelab.lab.runtime import Runtime


def test_every_claim_holds(tmp_path: Path, runtime: Runtime) -> None:
    """Bytes and connections, counted."""
    result = EXPERIMENT.run(Lab(True, runtime, tmp_path, 1, lambda _note: None))
    assert [claim for claim in result.shape if not claim.holds] == []
