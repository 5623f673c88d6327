"""The experiment `bloom-filter`, quick, on servers of its own."""

from __future__ import annotations

from pathlib import Path

from month1_caching_gateway.experiments.bloom_filter import EXPERIMENT
from scalelab.lab.course.experiment import Lab
from scalelab.lab.runtime import Runtime


def test_the_filter_keeps_absent_ids_from_the_database(runtime: Runtime, tmp_path: Path) -> None:
    """Every claim holds: reads at the false-positive rate, nothing that exists is lost."""
    notes: list[str] = []
    lab = Lab(quick=True, runtime=runtime, folder=tmp_path, seed=1, note=notes.append)
    result = EXPERIMENT.run(lab)
    assert [claim.claim for claim in result.shape if not claim.holds] == []
    control, treatment, theory = (arm.figures["absent_reads"] for arm in result.arms)
    assert isinstance(control, int)
    assert isinstance(treatment, int)
    assert isinstance(theory, int)
    assert theory <= control / 90
    assert 0 < treatment < control / 50
    assert result.arms[1].figures["present_found"] == 1_000
