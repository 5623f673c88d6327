"""Claims about the experiment cache-stampede: its counts are exact, so its shape is asserted."""

from __future__ import annotations

from pathlib import Path

from month1_caching_gateway.experiments.cache_stampede import EXPERIMENT, PROCESSES, QUICK
from scalelab.lab.course.experiment import Lab
from scalelab.lab.runtime import Runtime


def test_a_crowd_reaches_the_source_n_times_then_once_a_process_then_once(
    runtime: Runtime, tmp_path: Path
) -> None:
    """The three laws, by real processes on a real Redis."""
    notes: list[str] = []
    lab = Lab(quick=True, runtime=runtime, folder=tmp_path, seed=1, note=notes.append)
    result = EXPERIMENT.run(lab)
    assert [claim.claim for claim in result.shape if not claim.holds] == []
    counts = {arm.name: [count for _, count in arm.points] for arm in result.arms}
    assert counts == {
        "naive": [float(callers) for callers in QUICK],
        "single-flight": [float(PROCESSES)] * len(QUICK),
        "lease": [1.0] * len(QUICK),
    }
    assert len(notes) == len(result.arms) * len(QUICK)
