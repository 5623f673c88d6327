"""Long commands: what a person is told while they run and when they fail."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from scalelab.lab.containers.commands import Steps
from scalelab.lab.servers import ServerFailed
from scalelab.lab.servers.long_commands import run_logged


def shell(script: str, log: Path, *, timeout_s: float = 60.0, answer: bool = False) -> str:
    """Run a script of the shell."""
    return run_logged(
        ["sh", "-c", script],
        env=dict(os.environ),
        cwd=log.parent,
        log=log,
        timeout_s=timeout_s,
        what="The script",
        answer=answer,
    )


@pytest.mark.parametrize("answer", [True, False])
def test_both_outputs_are_kept_and_the_standard_one_is_returned_if_wanted(
    tmp_path: Path, answer: bool
) -> None:
    """A program's answer is for us, its progress for a person; the log has both."""
    log = tmp_path / "one.log"
    said = shell("echo answer; echo progress >&2", log, answer=answer)
    assert said == ("answer\n" if answer else "")
    assert sorted(log.read_text().split()) == ["answer", "progress"]


def test_a_failure_quotes_the_end_of_the_log(tmp_path: Path) -> None:
    """The words that matter stand at the end; the log's place is named."""
    log = tmp_path / "two.log"
    with pytest.raises(ServerFailed, match=r"exit code 7.*two\.log ends: .*no space left"):
        shell("echo first; echo no space left >&2; exit 7", log)


def test_a_command_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    """Nothing goes on building behind a failure that was reported."""
    child = tmp_path / "pid"
    with pytest.raises(ServerFailed, match="took longer than 1 s"):
        shell(f"sleep 600 & echo $! > {child}; wait", tmp_path / "three.log", timeout_s=1.0)
    pid = int(child.read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_step_is_told_when_it_begins_and_when_it_ends() -> None:
    """With its seconds, which are remembered."""
    lines: list[str] = []
    steps = Steps(lines.append)
    assert steps.run("base image", lambda: 5) == 5
    assert lines[0] == "base image …"
    assert lines[-1].startswith("base image: ")
    assert list(steps.seconds) == ["base image"]


def test_a_step_that_fails_says_so() -> None:
    """And its error is the caller's."""
    lines: list[str] = []

    def fail() -> None:
        raise ServerFailed("no")

    with pytest.raises(ServerFailed):
        Steps(lines.append).run("stand-ins", fail)
    assert lines[-1].startswith("stand-ins: failed after")
