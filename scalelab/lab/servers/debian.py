"""Install Debian packages without letting any of them start or enable a service.

Three guards: a policy script that answers "do not start" while packages are set up (an existing
one is left alone), no default PostgreSQL cluster, and the packages' units disabled afterwards.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Generator, Sequence
from pathlib import Path

from scalelab.lab.servers.errors import ServerFailed

_POLICY = Path("/usr/sbin/policy-rc.d")
_NO_CLUSTER = Path("/etc/postgresql-common/createcluster.d/scalelab-no-main-cluster.conf")
_LOCK = Path("/run/scalelab-apt.lock")
_UNIT_FOLDERS = (Path("/lib/systemd/system"), Path("/etc/systemd/system"))
_INSTALL_S, _UPDATE_S = 600, 300


def usable() -> bool:
    """Whether packages can be installed: root, and apt-get is there."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(packages: Sequence[str], units: Sequence[str] = ()) -> None:
    """Install packages; their services neither start now nor at the next boot.

    The package lists are fetched only if the first try fails. Raises ServerFailed with apt's words.
    """
    with _one_at_a_time(), _guarded():
        ours = [unit for unit in units if not _known(unit)]
        code, words = _apt(["install", "--no-install-recommends", *packages], _INSTALL_S)
        if code != 0:
            _apt(["update"], _UPDATE_S)
            code, words = _apt(["install", "--no-install-recommends", *packages], _INSTALL_S)
    if code != 0:
        raise ServerFailed(
            f"apt-get could not install {' '.join(packages)}: {words}. "
            f"Try: apt-get update, or set SCALELAB_NO_APT=1 to use wheels."
        )
    _disable(ours)


def _known(unit: str) -> bool:
    """Whether the machine had this service before us: then it is not ours to switch off."""
    return any((folder / unit).exists() for folder in _UNIT_FOLDERS)


def _apt(arguments: Sequence[str], timeout_s: float) -> tuple[int, str]:
    command = ["apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=120"]
    command += ["-o", "Dpkg::Options::=--force-confold", *arguments]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith("E:")]
    return done.returncode, " ".join(lines)[:400]


def _disable(units: Sequence[str]) -> None:
    # systemctl works on the links alone where systemd does not run, and tells update-rc.d, too.
    tool = shutil.which("systemctl") or shutil.which("update-rc.d")
    for unit in units:
        if tool is not None:
            name = unit.removesuffix(".service")
            order = ["disable", unit] if tool.endswith("systemctl") else [name, "disable"]
            subprocess.run([tool, *order], capture_output=True, timeout=60, check=False)


@contextlib.contextmanager
def _one_at_a_time() -> Generator[None]:
    with _LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _guarded() -> Generator[None]:
    made = [path for path, text, mode in _guards() if _make(path, text, mode)]
    try:
        yield
    finally:
        for path in made:
            path.unlink(missing_ok=True)


def _guards() -> list[tuple[Path, str, int]]:
    return [
        (
            _POLICY,
            "#!/bin/sh\n# Put here by scalelab while it installs packages.\nexit 101\n",
            0o755,
        ),
        (_NO_CLUSTER, "create_main_cluster = false\n", 0o644),
    ]


def _make(path: Path, text: str, mode: int) -> bool:
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return True
