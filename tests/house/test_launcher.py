"""`./lab` makes its own environment: from nothing, once, repaired when it broke, by one at a time.

Slow: real virtual environments are made, and packages come from the package index. The full lock
is installed once; the other tests use a lock of one package and a small stand-in for the program.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(600)

_ECHO = """
import json, os, sys
print(json.dumps({"arguments": sys.argv[1:], "python": sys.prefix, "cwd": os.getcwd()}))
"""


@pytest.fixture
def clone(root: Path, tmp_path: Path) -> Path:
    """What a clone needs to start, in a folder with a space in its name."""
    clone = tmp_path / "my clone"
    clone.mkdir()
    shutil.copy(root / "lab", clone)
    shutil.copytree(root / "requirements", clone / "requirements")
    return clone


@pytest.fixture
def small(clone: Path, root: Path) -> Path:
    """A clone whose locks hold one package each and whose program says how it was called."""
    for lock, package in (("demo", "idna"), ("dev", "click")):
        text = (root / "requirements" / "dev.lock").read_text(encoding="utf-8")
        entry = re.search(rf"^{package}==[^\n]*\\\n(?: +--hash[^\n]*\n)+", text, re.MULTILINE)
        assert entry is not None
        (clone / "requirements" / f"{lock}.lock").write_text(entry.group(0), encoding="utf-8")
    (clone / "scalelab").mkdir()
    (clone / "scalelab" / "__init__.py").touch()
    (clone / "scalelab" / "__main__.py").write_text(_ECHO, encoding="utf-8")
    return clone


def environment(**changes: str | None) -> dict[str, str]:
    """The environment of a shell in which no virtual environment is active."""
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
    }
    env["PATH"] = os.pathsep.join(
        part for part in env["PATH"].split(os.pathsep) if Path(part) != Path(sys.prefix) / "bin"
    )
    for name, value in changes.items():
        env.pop(name, None)
        if value is not None:
            env[name] = value
    return env


def lab(
    clone: Path, *words: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Start ./lab from another folder."""
    return subprocess.run(
        [str(clone / "lab"), *words],
        cwd="/",
        env=env or environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def imports(clone: Path, module: str) -> bool:
    """True if the clone's own Python has the module."""
    python = clone / ".venv" / "bin" / "python"
    done = subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False)
    return done.returncode == 0


def test_installs_from_nothing(clone: Path, root: Path) -> None:
    """The real program and lock, without HOME: JSON alone on stdout, one line on stderr."""
    shutil.copytree(
        root / "scalelab", clone / "scalelab", ignore=shutil.ignore_patterns("__pycache__")
    )
    first = lab(clone, "status", "--json", env=environment(HOME=None))
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout) == {"stacks": []}
    assert re.fullmatch(r"lab: installing \d+ pinned packages .* done\n", first.stderr)
    second = lab(clone, "status", "--json", env=environment(HOME=None))
    assert (second.returncode, second.stderr) == (0, "")


def test_arguments_arrive_unchanged_from_any_folder(small: Path) -> None:
    """Spaces and empty words survive; the folder is the caller's, the Python the clone's."""
    answer = lab(small, "logs", "two words", "", "--flag=a b")
    assert answer.returncode == 0, answer.stderr
    said = json.loads(answer.stdout)
    assert said["arguments"] == ["logs", "two words", "", "--flag=a b"]
    assert said["cwd"] == "/"
    assert Path(said["python"]) == small / ".venv"


def test_only_test_installs_the_bigger_lock_and_it_stays(small: Path) -> None:
    """`test` upgrades; what comes later does not downgrade."""
    lab(small, "status")
    assert (imports(small, "idna"), imports(small, "click")) == (True, False)
    assert "installing 1 pinned" in lab(small, "--help", "test").stderr
    assert imports(small, "click")
    assert lab(small, "status").stderr == ""


def test_a_changed_lock_is_installed(small: Path) -> None:
    """The stamp names the lock it stands for."""
    lab(small, "status")
    shutil.copy(small / "requirements" / "dev.lock", small / "requirements" / "demo.lock")
    assert "installing" in lab(small, "status").stderr
    assert imports(small, "click")


@pytest.mark.parametrize("broken", ["unfinished", "python", "empty"])
def test_a_broken_environment_is_repaired(small: Path, broken: str) -> None:
    """An interrupted install, a Python that went away, a folder with nothing in it."""
    lab(small, "status")
    venv = small / ".venv"
    if broken == "unfinished":
        (venv / ".lab-unfinished").touch()
        shutil.rmtree(next(venv.glob("lib/python*/site-packages/pip")))
    elif broken == "python":
        for name in ("python", "python3", *(p.name for p in venv.glob("bin/python3.*"))):
            (venv / "bin" / name).unlink(missing_ok=True)
            (venv / "bin" / name).symlink_to("/nonexistent/python3")
    else:
        shutil.rmtree(venv)
        venv.mkdir()
    answer = lab(small, "status")
    assert answer.returncode == 0, answer.stderr
    assert "installing" in answer.stderr
    assert imports(small, "idna")


def test_a_killed_install_is_repaired(small: Path) -> None:
    """SIGKILL in the middle: the next start finds no stamp and begins again."""
    start = subprocess.Popen(
        [str(small / "lab"), "status"],
        cwd="/",
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (small / ".venv" / "bin").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(start.pid, signal.SIGKILL)
    start.wait()
    assert not (small / ".venv" / ".lab-stamp").exists()
    answer = lab(small, "status")
    assert answer.returncode == 0, answer.stderr
    assert imports(small, "idna")


def test_starts_at_once_install_once(small: Path) -> None:
    """The second waits for the first and then finds everything done."""
    starts = [
        subprocess.Popen(
            [str(small / "lab"), "status"],
            cwd="/",
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    answers = [process.communicate(timeout=300) for process in starts]
    assert [process.returncode for process in starts] == [0, 0, 0], answers
    assert sum("installing" in complaint for _, complaint in answers) == 1
    assert all(json.loads(out)["arguments"] == ["status"] for out, _ in answers)


def test_a_moved_clone_is_repaired(small: Path) -> None:
    """The environment carries its path; at another place it is made good."""
    lab(small, "status")
    moved = small.rename(small.with_name("elsewhere"))
    answer = lab(moved, "status")
    assert answer.returncode == 0, answer.stderr
    assert Path(json.loads(answer.stdout)["python"]) == moved / ".venv"


def test_a_wrong_hash_is_refused(small: Path) -> None:
    """One sentence, exit code 3, the evidence, and no stamp."""
    lock = small / "requirements" / "demo.lock"
    lock.write_text(re.sub(r"sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, lock.read_text()))
    answer = lab(small, "status")
    assert answer.returncode == 3
    assert answer.stdout == ""
    assert "the packages could not be installed" in answer.stderr.splitlines()[-1]
    assert not (small / ".venv" / ".lab-stamp").exists()


def test_without_python_it_says_so(small: Path, tmp_path: Path) -> None:
    """One sentence that names what to install; a stub that only fails counts as none."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "dirname", "cksum", "mkdir", "grep", "tail", "rm", "mv"):
        (tools / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    stub = tools / "python3"
    stub.write_text("#!/bin/sh\nexit 127\n")
    stub.chmod(0o755)
    answer = lab(small, "status", env=environment(PATH=str(tools)))
    assert answer.returncode == 3
    assert answer.stderr.startswith("lab: Python 3.11 or newer is needed")
    assert answer.stderr.count("\n") == 1


def test_it_is_plain_posix_shell(root: Path) -> None:
    """No shell that people have chokes on it."""
    for shell in ("sh", "dash", "bash"):
        if shutil.which(shell):
            subprocess.run([shell, "-n", str(root / "lab")], check=True)
    assert (root / "lab").read_text().startswith("#!/bin/sh\n")
    assert os.access(root / "lab", os.X_OK)
