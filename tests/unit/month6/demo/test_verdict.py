"""What a demo's report says at the end, and what happens to the run's folder."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from month6_capstone.commands import conclude
from month6_capstone.demo import Outcome, Report, print_report
from scalelab.lab.cli.outcome import CommandFailed, Exit, exit_code_of
from tests.unit.month6.demo.reports import report, unbalanced


def shown(one: Report) -> str:
    """The report as a person reads it."""
    console = Console(file=io.StringIO(), width=200)
    print_report(console, one)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def run_folder(tmp_path: Path) -> tuple[Path, Path]:
    """A run's folder, and its data, with something in each."""
    folder, data = tmp_path / "run", tmp_path / "run" / "data"
    data.mkdir(parents=True)
    (data / "rows").write_text("rows")
    (folder / "report.json").write_text("{}")
    return folder, data


@pytest.mark.parametrize(
    "change",
    [
        {"books": unbalanced().books},
        {"duplicates": 1},
        {"stuck": 1},
        {"stale_own_reads": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_one_broken_promise_makes_a_run_red(change: dict[str, object]) -> None:
    """Unbalanced books, an effect that happened twice, a stuck order, a stale read."""
    assert report().green
    red = report(**change)
    assert not red.green
    assert "the books do NOT balance" in shown(red)


def test_a_red_run_keeps_its_folder_and_says_where_it_is(tmp_path: Path) -> None:
    """Exit code 1, one sentence with the path; everything is still there."""
    folder, data = run_folder(tmp_path)
    with pytest.raises(CommandFailed, match="do not balance") as caught:
        conclude(Outcome(unbalanced(), folder), data)
    assert str(folder) in caught.value.message
    assert exit_code_of(caught.value) is Exit.FAILED
    assert (data / "rows").exists()
    assert (folder / "report.json").exists()


def test_a_green_run_gives_its_disk_back_and_keeps_its_report(tmp_path: Path) -> None:
    """Data of a run can be gigabytes; the report is what people come back for."""
    folder, data = run_folder(tmp_path)
    conclude(Outcome(report(), folder), data)
    assert not data.exists()
    assert (folder / "report.json").exists()


def test_a_red_report_names_the_ids_that_disagree() -> None:
    """The rule and the order, for a person and for a program."""
    assert "order-7" in shown(unbalanced())
    assert "order-7" not in shown(report())
    document = json.loads(json.dumps(unbalanced().document()))
    assert document["books"]["violations"][0]["rule"] == "charged_once"


def test_a_report_without_a_fault_can_be_shown() -> None:
    """`--no-fault`, and a browser-only run without cache answers."""
    calm = replace(report(), fault=None, cache_hit_ratio=0.0, reads_per_replica={})
    assert "SIGKILL" not in shown(calm)
    assert calm.document()["fault"] is None
