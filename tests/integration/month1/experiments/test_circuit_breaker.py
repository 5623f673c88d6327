"""Claims about the experiment circuit-breaker: its counts are exact, so its shape is asserted."""

from __future__ import annotations

from pathlib import Path

from month1_caching_gateway.experiments.circuit_breaker import ATTEMPTS, CALLERS, EXPERIMENT, SICK
from scalelab.lab.course.experiment import Lab
from scalelab.lab.runtime import Runtime


def test_retries_multiply_a_breaker_probes_and_an_obeying_one_is_silent(
    runtime: Runtime, tmp_path: Path
) -> None:
    """Every claim holds, by real calls to a real process."""
    notes: list[str] = []
    lab = Lab(quick=True, runtime=runtime, folder=tmp_path, seed=1, note=notes.append)
    result = EXPERIMENT.run(lab)
    assert [claim for claim in result.shape if not claim.holds] == []
    bare = result.arms[0].figures
    assert bare["calls_while_503"] == bare["calls_while_429"] == ATTEMPTS * CALLERS * SICK
    assert len(notes) == 6
