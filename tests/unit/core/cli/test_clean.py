"""`clean` removes what was made, all of it, and nothing else."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scalelab.lab.cli.app import run
from scalelab.lab.cli.clean import disk_size, removables
from scalelab.lab.cli.outcome import Exit
from scalelab.lab.servers.account import stand_in


class Terminal(io.StringIO):
    """Standard input with a person at it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with things made, things kept, and a link out of it."""
    clone, outside = tmp_path / "clone", tmp_path / "outside"
    for name in (".lab/runs/one", ".lab/cache", ".venv/bin", "docs"):
        (clone / name).mkdir(parents=True)
    outside.mkdir()
    (outside / "precious").write_text("x")
    (clone / ".lab" / "cache" / "jar").write_bytes(b"x" * 100_000)
    (clone / ".lab" / "link").symlink_to(outside)
    return clone


def test_all_of_lab_and_with_all_the_packages(clone: Path) -> None:
    """What each level takes, with its size."""
    plain = {item.path.name: item.size for item in removables(clone, everything=False)}
    assert set(plain) == {"runs", "cache", "link"}
    assert plain["cache"] >= 100_000
    everything = {item.path.name for item in removables(clone, everything=True)}
    assert everything == {"runs", "cache", "link", ".venv"}


def test_yes_removes_and_reports(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The link goes, what it pointed to stays; so does everything that was not made."""
    assert run(["--root", str(clone), "clean", "--yes", "--json"]) == Exit.OK
    removed = json.loads(capsys.readouterr().out)["removed"]
    assert {entry["path"] for entry in removed} == {".lab/runs", ".lab/cache", ".lab/link"}
    assert list((clone / ".lab").iterdir()) == []
    assert (clone / ".venv").exists()
    assert (clone / "docs").exists()
    assert (clone.parent / "outside" / "precious").exists()


def test_without_yes_it_asks(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No answer is no; nothing is removed."""
    monkeypatch.setattr(sys, "stdin", Terminal(""))
    assert run(["--root", str(clone), "clean"]) == Exit.FAILED
    answer = capsys.readouterr()
    assert ".lab/cache" in answer.out
    assert "Remove all of this?" in answer.err
    assert (clone / ".lab" / "cache" / "jar").exists()


def test_nobody_there_is_not_asked(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a script: the list, one sentence that names --yes, and nothing removed."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert run(["--root", str(clone), "clean"]) == Exit.FAILED
    assert "--yes" in capsys.readouterr().err
    assert (clone / ".lab" / "cache" / "jar").exists()


def test_data_outside_the_clone_go_too(clone: Path) -> None:
    """Where the servers' account cannot reach a clone, its stacks keep their data elsewhere."""
    outside: list[Path] = []
    try:
        for owner in (".lab/stacks/month6", ".lab/runs/one", ".lab/runs/bench-1/processes"):
            (clone / owner).mkdir(parents=True, exist_ok=True)
            outside.append(stand_in(clone / owner / "data"))
            (outside[-1] / "postgres").mkdir(parents=True)
        assert run(["--root", str(clone), "clean", "--yes"]) == Exit.OK
        assert [path for path in outside if path.exists()] == []
    finally:
        for path in outside:
            shutil.rmtree(path, ignore_errors=True)


def test_json_cannot_ask(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program is told to say yes; stdout stays empty."""
    assert run(["--root", str(clone), "clean", "--json"]) == Exit.FAILED
    assert capsys.readouterr().out == ""


def test_nothing_to_remove_is_fine(tmp_path: Path) -> None:
    """A fresh clone is clean."""
    assert run(["--root", str(tmp_path), "clean", "--yes"]) == Exit.OK


def test_a_used_folder_is_left_alone(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A process that names a file in .lab, a server of a test run say, stops the cleaning."""
    code = "import sys; sys.stdin.read()"
    user = subprocess.Popen(
        [sys.executable, "-c", code, str(clone / ".lab" / "runs" / "one")], stdin=subprocess.PIPE
    )
    try:
        assert run(["--root", str(clone), "clean", "--yes"]) == Exit.FAILED
        assert str(user.pid) in capsys.readouterr().err
        assert (clone / ".lab" / "runs").exists()
    finally:
        user.communicate()


def test_size_counts_blocks_and_skips_what_vanished(tmp_path: Path) -> None:
    """A sparse file costs what it occupies; a missing path costs nothing."""
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(10_000_000)
    assert disk_size(sparse) < 1_000_000
    assert disk_size(tmp_path / "gone") == 0
