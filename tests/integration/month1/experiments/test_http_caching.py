"""What a real browser asks for when it comes back: the arm that says the most."""

from __future__ import annotations

from pathlib import Path

from month1_caching_gateway.experiments.http_caching import FILES, measure
from scalelab.lab.course.experiment import Lab
from scalelab.lab.runtime import Runtime


def test_a_browser_that_comes_back_asks_for_what_may_have_changed(
    runtime: Runtime, tmp_path: Path
) -> None:
    """All; then the page alone, by its tag; then the page and the one file of a release."""
    lab = Lab(quick=True, runtime=runtime, folder=tmp_path, seed=1, note=lambda _text: None)
    seen = measure(lab, ("immutable",))["immutable"]
    assert [seen.statuses(visit) for visit in range(3)] == [{200: FILES + 1}, {304: 1}, {200: 2}]
    assert seen.shown == ("one", "one", "two")
