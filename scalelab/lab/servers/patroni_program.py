"""Patroni as the servers' account can run it: a Python outside /root, and the packages it needs.

Patroni is a Python package of this project's environment, but an account that was dropped to may
reach neither that environment nor its interpreter. So the packages are copied, once, to the cache
(which it can reach), and an interpreter of the same version that it can reach runs them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from scalelab.lab.servers import wheels
from scalelab.lab.servers.account import Account, can_reach
from scalelab.lab.servers.errors import ServerMissing
from scalelab.lab.servers.providers import Capability, Providers

# What Patroni with etcd's v3 interface and psycopg 3 imports; not all that it names as needed.
PACKAGES = (
    "patroni",
    "psycopg",
    "psycopg-binary",
    "python-etcd",
    "dnspython",
    "urllib3",
    "pyyaml",
    "click",
    "prettytable",
    "wcwidth",
    "python-dateutil",
    "six",
    "psutil",
    "ydiff",
    "typing-extensions",
)

_START = "import sys; sys.path.insert(0, {packages!r}); from patroni.__main__ import main; main()"
_FIX = "python -m pip install --require-hashes -r requirements/dev.lock"


@dataclass(frozen=True, slots=True)
class PatroniProgram:
    """interpreter: a Python that the account can run. packages: folder on its import path."""

    version: str
    interpreter: Path
    packages: Path

    def command(self, config: Path) -> list[str]:
        """The command line of one Patroni."""
        start = _START.format(packages=str(self.packages))
        return [str(self.interpreter), "-I", "-c", start, str(config)]


def obtain(providers: Providers, account: Account | None) -> PatroniProgram:
    """Copy the packages if that was not done yet. Raises ServerMissing: why, and what to do."""
    version = _version()
    if version is None:
        raise ServerMissing(
            f"There is no Patroni for this stack: the package is not in this environment. "
            f"Try: {_FIX}."
        )
    found = interpreter(account)
    if found is None:
        raise ServerMissing(
            f"There is no Patroni for this stack: account {account.uid if account else '-'} "
            f"reaches no Python {_wanted()}. Try: apt-get install python3, or run as an ordinary "
            f"user."
        )
    return PatroniProgram(version, found, _copied(providers.options.cache))


def capability(account: Account | None) -> Capability:
    """Whether Patroni can be run here; copies nothing."""
    version = _version()
    if version is None:
        return Capability("patroni", "none", None, _FIX)
    if interpreter(account) is None:
        return Capability("patroni", "none", None, f"install a Python {_wanted()} outside /root")
    return Capability("patroni", "package", version)


def interpreter(account: Account | None) -> Path | None:
    """A Python of our version (its compiled packages fit no other) that the account can run."""
    own = Path(sys.executable).resolve()
    others = (f"/usr/local/bin/python{_wanted()}", f"/usr/bin/python{_wanted()}")
    for candidate in (own, *map(Path, others)):
        if can_reach(account, candidate.resolve().parent) and _is_ours(candidate):
            return candidate.resolve()
    return None


def _wanted() -> str:
    return ".".join(map(str, sys.version_info[:2]))


def _is_ours(python: Path) -> bool:
    if python == Path(sys.executable).resolve():
        return True
    script = "import sys; print('.'.join(map(str, sys.version_info[:2])))"
    try:
        done = subprocess.run(
            [python, "-I", "-S", "-c", script],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == _wanted()


def _version() -> str | None:
    try:
        return importlib.metadata.version("patroni")
    except importlib.metadata.PackageNotFoundError:
        return None


def _copied(cache: Path) -> Path:
    """The folder of the copies, named after every package's version."""
    named = [importlib.metadata.distribution(name) for name in PACKAGES]
    versions = " ".join(f"{one.name}={one.version}" for one in named)
    digest = hashlib.sha256(f"{_wanted()} {versions}".encode()).hexdigest()[:12]
    target = cache / f"patroni-{digest}"
    cache.mkdir(parents=True, exist_ok=True)
    with wheels.locked(cache / "patroni.lock"):
        if not target.is_dir():
            _copy(named, target)
    return target


def _copy(packages: list[importlib.metadata.Distribution], target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".patroni-") as scratch:
        aside = Path(scratch) / "packages"
        for package in packages:
            for file in package.files or ():
                if file.parts[0] == ".." or file.suffix == ".pyc":
                    continue  # scripts beside the packages; caches of another interpreter
                copy = aside / file
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path(str(file.locate())), copy)
        for path in (aside, *aside.rglob("*")):
            path.chmod(0o755 if path.is_dir() or ".so" in path.name else 0o644)
        aside.rename(target)
