"""A run's folder: one name each, held while its servers live, emptied when it is over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scalelab.lab.cli.app import run
from scalelab.lab.cli.outcome import Exit
from scalelab.lab.cli.runs import discard, held, holder_of, new_run, open_runs


def test_two_runs_of_one_name_get_two_folders(tmp_path: Path) -> None:
    """Two demos may begin in the same second."""
    first, second = new_run(tmp_path, "now"), new_run(tmp_path, "now")
    assert first != second
    assert first.parent == second.parent == tmp_path / ".lab" / "runs"


def test_a_run_is_open_while_it_is_held(tmp_path: Path) -> None:
    """The lock tells, not the file: remains of a killed process never count."""
    mine, other = new_run(tmp_path, "mine"), new_run(tmp_path, "other")
    (other / "open.lock").write_text("1\n")
    with held(mine):
        assert open_runs(tmp_path) == [mine]
        assert holder_of(mine) == os.getpid()
    assert open_runs(tmp_path) == []


def test_discard_keeps_what_it_is_told_and_follows_no_link(tmp_path: Path) -> None:
    """Data and secrets go; the report and the logs stay; what a link points to stays, too."""
    folder = new_run(tmp_path, "mine")
    for part in ("data/postgres", "secrets", "logs"):
        (folder / part).mkdir(parents=True)
        (folder / part / "file").write_text("x")
    (folder / "report.json").write_text("{}")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (folder / "link").symlink_to(outside)
    discard(folder, keep=("logs", "report.json"))
    assert sorted(entry.name for entry in folder.iterdir()) == ["logs", "report.json"]
    assert (folder / "logs" / "file").exists()
    discard(folder)
    assert not folder.exists()
    assert (outside / "precious").exists()


def test_status_down_and_clean_know_of_an_open_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A demo is no stack; whoever looks for it is told where it is and who ends it."""
    folder = new_run(tmp_path, "demo")
    with held(folder):
        for command in ("status", "down"):
            assert run(["--root", str(tmp_path), command]) == Exit.OK
            said = capsys.readouterr().err
            assert f".lab/runs/demo is open (process {os.getpid()})" in said
        assert run(["--root", str(tmp_path), "clean", "--yes"]) == Exit.FAILED
        assert "Servers run in .lab/runs/demo; Ctrl-C" in capsys.readouterr().err
    assert folder.exists()


def test_the_logs_of_the_last_run_can_be_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The advice of a server that failed in a demo is `./lab logs NAME`; it must work."""
    logs = new_run(tmp_path, "demo") / "logs"
    logs.mkdir()
    (logs / "kafka.log").write_text("no space left\n")
    assert run(["--root", str(tmp_path), "logs", "kafka"]) == Exit.OK
    assert capsys.readouterr().out == "no space left\n"
