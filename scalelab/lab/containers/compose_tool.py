"""Docker Compose 2 for the bed: of this machine, else built once from its Go module.

Compose 1, which Debian 12 packages, is no way out: it knows neither `include`, nor `up --wait`,
nor top-level names, so what it ran would not be what a reader's `docker compose up` runs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import cast

from scalelab.lab.containers.commands import run_logged
from scalelab.lab.servers import wheels
from scalelab.lab.servers.errors import ServerMissing
from scalelab.lab.servers.go import go_is_new_enough
from scalelab.lab.servers.providers import Providers, version_tuple

COMPOSE_VERSION = "2.40.3"
_LEAST = (2, 24)  # `include`, `up --wait`, and values of one file replaced by another's
_MODULE = f"github.com/docker/compose/v2@v{COMPOSE_VERSION}"
_VERSION_FLAG = "-X github.com/docker/compose/v2/internal.Version"
_PLUGINS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)
_DOWNLOAD_S, _BUILD_S = 600.0, 2000.0


def found(providers: Providers) -> Path | None:
    """The program where it is here already: this machine's plugin, or the one in the cache."""
    places = [Path(folder) / "docker-compose" for folder in _PLUGINS]
    places.append(Path.home() / ".docker" / "cli-plugins" / "docker-compose")
    on_path = shutil.which("docker-compose")
    places += [Path(on_path)] if on_path else []
    for place in [*places, _target(providers)]:
        if os.access(place, os.X_OK) and _is_new_enough(place):
            return place
    return None


def can_build() -> bool:
    """Whether a Go is here that can build it."""
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


def obtain(providers: Providers, log: Path) -> Path:
    """The program, built into the cache if need be: minutes of CPU, once a version.

    Raises ServerMissing without a Go to build it with, ServerFailed with the end of `log`.
    """
    target = _target(providers)
    with wheels.locked(target.with_suffix(".lock")):
        here = found(providers)
        if here is not None:
            return here
        if not can_build():
            raise ServerMissing(
                "There is no Docker Compose 2.24 or newer for the container bed, and no Go 1.24 "
                "or newer to build it. Try: install the docker-compose-plugin, or Go."
            )
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".compose-") as scratch:
            made = _build(Path(scratch), log)
            made.chmod(0o755)
            made.rename(target)
    return target


def _build(scratch: Path, log: Path) -> Path:
    # `go install module@version` refuses a module whose go.mod replaces others, so the module's
    # files are copied and built in place. The build cache is the user's: a second try is quick.
    env = {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": "-mod=mod"}
    answer = run_logged(
        ["go", "mod", "download", "-json", _MODULE],
        env=env,
        cwd=scratch,
        log=log,
        timeout_s=_DOWNLOAD_S,
        what="Fetching Docker Compose",
        answer=True,
    )
    source = scratch / "source"
    shutil.copytree(cast("dict[str, str]", json.loads(answer))["Dir"], source)
    for path in (source, *source.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)
    linking = f"-s -w {_VERSION_FLAG}=v{COMPOSE_VERSION}"
    flags = ["-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false", "-ldflags", linking]
    run_logged(
        ["go", "build", *flags, "-o", "../made", "./cmd"],
        env=env,
        cwd=source,
        log=log,
        timeout_s=_BUILD_S,
        what="Building Docker Compose",
    )
    return scratch / "made"


def _is_new_enough(program: Path) -> bool:
    try:
        answer = subprocess.run(
            [program, "version", "--short"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and version_tuple(answer.stdout) >= _LEAST


def _target(providers: Providers) -> Path:
    return providers.options.cache / f"docker-compose-{COMPOSE_VERSION}"
