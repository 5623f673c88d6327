"""The experiment's short version, on real sockets: its claims hold."""

from __future__ import annotations

from pathlib import Path

from month1_caching_gateway.experiments.sockets import EXPERIMENT, paces
from scalelab.lab.course.experiment import Lab
from scalelab.lab.runtime import Runtime


def test_udp_loses_what_tcp_makes_wait(runtime: Runtime, tmp_path: Path) -> None:
    """Every claim holds; both protocols were offered the same messages at the same paces."""
    lab = Lab(quick=True, runtime=runtime, folder=tmp_path, seed=1, note=lambda line: None)
    result = EXPERIMENT.run(lab)
    assert [claim.measured for claim in result.shape if not claim.holds] == []
    udp, tcp = result.arms
    assert udp.figures["sent"] == tcp.figures["sent"]
    assert [x for x, _ in udp.points] == [x for x, _ in tcp.points]
    assert len(udp.points) == len(paces(quick=True))
