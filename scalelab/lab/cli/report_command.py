"""`report`: everything that was measured in this folder as one page, without a network."""

from __future__ import annotations

import datetime as dt
import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scalelab.lab.cli.outcome import emit_json, note, say, sentence_of
from scalelab.lab.cli.place import root_of

if TYPE_CHECKING:
    from scalelab.lab.course.discovery import FoundExperiment
    from scalelab.lab.course.report import Finding


def report(
    context: typer.Context,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout.")
    ] = False,
) -> None:
    """Collect the results of experiments and benches into one HTML page.

    Nothing is run: what stands in .lab/experiments and .lab/bench is shown, and what is missing
    is listed with the command that makes it. The page is .lab/report.html.

    Examples:  ./lab report   ·   ./lab report --json
    """
    from scalelab.lab.course.discovery import find_experiments
    from scalelab.lab.course.report import render

    root = root_of(context)
    found = find_experiments(root, on_error=_tell_broken)
    findings = [_finding(root, one) for one in found]
    benches = [_read(path) for path in sorted((root / ".lab" / "bench").glob("*.json"))]
    style = resources.files("scalelab.lab.course").joinpath("report.css").read_text("utf-8")
    page = root / ".lab" / "report.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    whole = [document for document in benches if document is not None]
    page.write_text(render(findings, whole, style=style), encoding="utf-8")
    ran = [one.slug for one in findings if one.result is not None]
    if as_json:
        missing = [one.slug for one in findings if one.result is None]
        emit_json({"page": str(page), "experiments": ran, "missing": missing})
    else:
        say(f"{page}: {len(ran)} of {len(findings)} experiments, {len(whole)} benches")


def _finding(root: Path, found: FoundExperiment) -> Finding:
    from scalelab.lab.course.report import Finding

    experiment = found.experiment
    folder = root / ".lab" / "experiments" / experiment.slug
    path, plot = folder / "result.json", folder / "plot.svg"
    result = _read(path)
    age = ""
    if result is not None:
        age = f"{dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC):%Y-%m-%d %H:%M} UTC"
    drawing = plot.read_text(encoding="utf-8") if result is not None and plot.is_file() else ""
    return Finding(found.month.name, experiment.slug, experiment.question, result, drawing, age)


def _read(path: Path) -> dict[str, Any] | None:
    """A result file; None if it is absent, or broken off by a kill while it was written."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        note(f"lab: {path} cannot be read and is left out: {sentence_of(error)}")
        return None


def _tell_broken(path: Path, error: Exception) -> None:
    note(f"lab: {path} cannot be loaded: {sentence_of(error)}")
