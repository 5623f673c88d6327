"""Programs that this project builds from Go modules, once a version, into the cache of downloads.

A build takes minutes of CPU, so it yields to everything else on the machine. Several processes that
want the same program wait for one build. The build cache is the user's: a second try is quick.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from scalelab.lab.servers import wheels
from scalelab.lab.servers.errors import ServerMissing
from scalelab.lab.servers.long_commands import run_logged
from scalelab.lab.servers.providers import Providers

_DOWNLOAD_S, _BUILD_S = 600.0, 2000.0


@dataclass(frozen=True, slots=True)
class GoProgram:
    """A program of a Go module. version: without the `v`. package: path below the module.

    version_variable: of the linker, where the program keeps the version that it tells. dropped:
    modules whose replacement by a folder beside the module goes, for only the module comes here.
    raised: `module@version`, newer than the module asks for. linking: more flags of the linker.
    """

    name: str
    module: str
    version: str
    package: str
    version_variable: str
    dropped: tuple[str, ...] = ()
    raised: tuple[str, ...] = ()
    linking: str = ""

    def target(self, providers: Providers) -> Path:
        """Where it stands in the cache once it is built."""
        return providers.options.cache / f"{self.name}-{self.version}"


def go_is_new_enough(version_output: str) -> bool:
    """True for Go >= 1.24, judged by what `go version` prints."""
    match = re.search(r"go(\d+)\.(\d+)", version_output)
    return match is not None and (int(match[1]), int(match[2])) >= (1, 24)


def can_build() -> bool:
    """Whether a Go is here that is new enough."""
    try:
        answer = subprocess.run(
            ["go", "version"],
            env={**os.environ, "GOTOOLCHAIN": "local"},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and go_is_new_enough(answer.stdout)


def obtain_built(program: GoProgram, providers: Providers, log: Path) -> Path:
    """The program in the cache, built if need be: minutes of CPU, once a version.

    Raises ServerMissing without a Go to build it with, ServerFailed with the end of `log`.
    """
    target = program.target(providers)
    with wheels.locked(target.with_name(f"{target.name}.lock")):
        if os.access(target, os.X_OK):
            return target
        if not can_build():
            raise ServerMissing(
                f"There is no {program.name} {program.version} here, and no Go 1.24 or newer to "
                f"build it. Try: install Go."
            )
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{program.name}-") as scratch:
            made = _build(program, Path(scratch), log)
            made.chmod(0o755)
            made.rename(target)
    return target


def _build(program: GoProgram, scratch: Path, log: Path) -> Path:
    # `go install module@version` refuses a module whose go.mod replaces others, so the module's
    # files are copied and built in place.
    env = {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": "-mod=mod"}
    answer = run_logged(
        ["go", "mod", "download", "-json", f"{program.module}@v{program.version}"],
        env=env,
        cwd=scratch,
        log=log,
        timeout_s=_DOWNLOAD_S,
        what=f"Fetching {program.name}",
        answer=True,
    )
    source = scratch / "source"
    shutil.copytree(cast("dict[str, str]", json.loads(answer))["Dir"], source)
    for path in (source, *source.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)
    for change in _changes(program):
        what = f"Fitting {program.name} to this Go"
        run_logged(change, env=env, cwd=source, log=log, timeout_s=_DOWNLOAD_S, what=what)
    linking = f"-s -w -X {program.version_variable}=v{program.version} {program.linking}".rstrip()
    flags = ["-p", "2", "-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false"]
    into = ["-o", "../made", program.package]
    run_logged(
        ["nice", "-n", "10", "go", "build", *flags, "-ldflags", linking, *into],
        env=env,
        cwd=source,
        log=log,
        timeout_s=_BUILD_S,
        what=f"Building {program.name}",
    )
    return scratch / "made"


def _changes(program: GoProgram) -> list[list[str]]:
    """Commands that change the copied module's list of what it needs, where that is due."""
    changes: list[list[str]] = []
    if program.dropped:
        drops = [f"-dropreplace={module}" for module in program.dropped]
        changes.append(["go", "mod", "edit", *drops])
    if program.raised:
        changes.append(["go", "get", *program.raised])
    return changes
