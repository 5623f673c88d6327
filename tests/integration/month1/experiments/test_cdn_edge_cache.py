"""The experiment's short version, on real nginx over injected distance: its claims hold."""

from __future__ import annotations

from pathlib import Path

from month1_caching_gateway.experiments.cdn_edge_cache import EXPERIMENT
from scalelab.lab.course.experiment import Lab
from scalelab.lab.runtime import Runtime


def test_edges_save_the_origin_and_the_near_one_saves_the_reader(
    server_root: Path, tmp_path: Path
) -> None:
    """Every claim; the arms differ in the door alone. It kills servers, so they are its own."""
    with Runtime(server_root / "cdn-edge-cache", private=True) as runtime:
        lab = Lab(quick=True, runtime=runtime, folder=tmp_path, seed=1, note=lambda _text: None)
        result = EXPERIMENT.run(lab)
    assert [claim.measured for claim in result.shape if not claim.holds] == []
    assert [arm.name for arm in result.arms] == ["origin", "far edge", "near edge"]
    assert len({arm.figures["requests"] for arm in result.arms}) == 1
