"""`.ci/run` runs everything and hides no failure."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def run_with(root: Path, tmp_path: Path, lab: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of .ci/run beside a `lab` that behaves as given."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(root / ".ci" / "run", tmp_path / ".ci" / "run")
    launcher = tmp_path / "lab"
    launcher.write_text(f"#!/bin/sh\n{lab}\n", encoding="utf-8")
    launcher.chmod(0o755)
    return subprocess.run(
        [str(tmp_path / ".ci" / "run")],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def test_it_runs_the_tests_and_then_the_beds_as_ci(root: Path, tmp_path: Path) -> None:
    """In this order, with CI=true."""
    answer = run_with(root, tmp_path, 'echo "lab $* CI=$CI"')
    assert answer.returncode == 0
    ran = [line for line in answer.stdout.splitlines() if line.startswith("lab test")]
    assert ran == ["lab test CI=true", "lab test --beds CI=true"]


@pytest.mark.parametrize(
    ("lab", "code", "named"),
    [
        ('[ "$*" != test ] || exit 3', 3, "./lab test"),
        ('[ "$*" != "test --beds" ] || exit 1', 1, "./lab test --beds"),
    ],
)
def test_a_failure_is_printed_and_passed_on(
    root: Path, tmp_path: Path, lab: str, code: int, named: str
) -> None:
    """The exit code is the failing step's own."""
    answer = run_with(root, tmp_path, lab)
    assert answer.returncode == code
    assert f"FAILED ({code}): {named}" in answer.stderr


def test_it_sets_nothing_that_a_reader_would_not(root: Path) -> None:
    """No host name, no index, no proxy: those are the machine's own settings."""
    text = (root / ".ci" / "run").read_text(encoding="utf-8").lower()
    for word in ("://", "index", "proxy", "pip_", "uv_", "mirror"):
        assert word not in text
