"""Docker Compose 2 for the bed: of this machine, else built once from its Go module.

Compose 1, which Debian 12 packages, is no way out: it knows neither `include`, nor `up --wait`,
nor top-level names, so what it ran would not be what a reader's `docker compose up` runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from scalelab.lab.servers.errors import ServerMissing
from scalelab.lab.servers.go import GoProgram, can_build, obtain_built
from scalelab.lab.servers.providers import Providers, version_tuple

COMPOSE = GoProgram(
    name="docker-compose",
    module="github.com/docker/compose/v2",
    version="2.40.3",
    package="./cmd",
    version_variable="github.com/docker/compose/v2/internal.Version",
)
_LEAST = (2, 24)  # `include`, `up --wait`, and values of one file replaced by another's
_PLUGINS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)


def found(providers: Providers) -> Path | None:
    """The program where it is here already: this machine's plugin, or the one in the cache."""
    places = [Path(folder) / "docker-compose" for folder in _PLUGINS]
    places.append(Path.home() / ".docker" / "cli-plugins" / "docker-compose")
    on_path = shutil.which("docker-compose")
    places += [Path(on_path)] if on_path else []
    for place in [*places, COMPOSE.target(providers)]:
        if os.access(place, os.X_OK) and _is_new_enough(place):
            return place
    return None


def obtain(providers: Providers, log: Path) -> Path:
    """The program, built into the cache if need be: minutes of CPU, once a version.

    Raises ServerMissing without a Go to build it with, ServerFailed with the end of `log`.
    """
    here = found(providers)
    if here is not None:
        return here
    if not can_build():
        raise ServerMissing(
            "There is no Docker Compose 2.24 or newer for the container bed, and no Go 1.24 "
            "or newer to build it. Try: install the docker-compose-plugin, or Go."
        )
    return obtain_built(COMPOSE, providers, log)


def _is_new_enough(program: Path) -> bool:
    try:
        answer = subprocess.run(
            [program, "version", "--short"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and version_tuple(answer.stdout) >= _LEAST
