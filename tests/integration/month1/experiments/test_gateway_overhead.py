"""Claims about the experiment gateway-overhead: orders and wide bands, so its shape is asserted."""

from __future__ import annotations

from pathlib import Path

from month1_caching_gateway.experiments.gateway_overhead import ARMS, EXPERIMENT
from scalelab.lab.course.experiment import Lab
from scalelab.lab.runtime import Runtime


def test_a_gateway_costs_more_than_nginx_and_its_checks_less_than_itself(
    runtime: Runtime, tmp_path: Path
) -> None:
    """Four real processes, every answer compared."""
    lab = Lab(quick=True, runtime=runtime, folder=tmp_path, seed=1, note=lambda _text: None)
    result = EXPERIMENT.run(lab)
    assert [arm.name for arm in result.arms] == list(ARMS)
    assert [claim.claim for claim in result.shape if not claim.holds] == []
