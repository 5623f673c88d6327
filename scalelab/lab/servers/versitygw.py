"""versitygw: an S3 server over plain folders, built from its Go module.

Buckets are folders below `objects`, objects are files in them; what S3 knows of an object beside
its bytes stands below `metadata`, because not every file system keeps extended attributes. It
checks version 4 signatures, and it knows neither lifecycle rules nor storage classes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import ClassVar

from scalelab.lab.servers.account import hand_over
from scalelab.lab.servers.base import Server
from scalelab.lab.servers.go import GoProgram, can_build, obtain_built
from scalelab.lab.servers.processes import Launch, StopSteps
from scalelab.lab.servers.providers import Capability, Providers, version_tuple
from scalelab.lab.servers.service import http_probe

VERSITYGW = GoProgram(
    name="versitygw",
    module="github.com/versity/versitygw",
    version="1.8.0",
    package="./cmd/versitygw",
    version_variable="main.Version",
)
_HEALTH = "/health"


class VersityGw(Server):
    """An S3 server with one root user. Its keys are the stack's secrets.

    objects: an existing folder for the objects, instead of one of its own.
    """

    default_port = 7070
    death_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_steps: StopSteps = ((signal.SIGTERM, 10.0),)
    region: ClassVar[str] = "us-east-1"

    def __init__(
        self, name: str = "versitygw", port: int | None = None, *, objects: Path | None = None
    ) -> None:
        super().__init__(name, port)
        self._objects = objects

    @property
    def endpoint(self) -> str:
        """URL for clients, which must put the bucket into the path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def access_key(self) -> str:
        """Name of the root user's key."""
        return self.place.secret(f"{self.name}.access")

    @property
    def secret_key(self) -> str:
        """What the root user signs with."""
        return self.place.secret(f"{self.name}.secret")

    @property
    def objects(self) -> Path:
        """The folder whose folders are the buckets."""
        return self._objects or self.folder / "objects"

    def prepare(self) -> Launch:
        program = obtain(self.place.providers, self.place.logs / f"{self.name}-build.log")
        self.version = _version_of(program)
        for folder in (self.objects, self.folder / "metadata"):
            if not folder.exists():
                folder.mkdir(mode=0o700)
            hand_over(self.place.account, folder)
        listen = ["--port", f"127.0.0.1:{self.port}", "--region", self.region]
        serve = ["--health", _HEALTH, "--keep-alive", "--quiet"]
        store = ["posix", "--sidecar", str(self.folder / "metadata"), str(self.objects)]
        keys = {"ROOT_ACCESS_KEY_ID": self.access_key, "ROOT_SECRET_ACCESS_KEY": self.secret_key}
        return self.launch([str(program), *listen, *serve, *store], keys)

    def probe(self) -> None:
        http_probe(self.port, _HEALTH)


def obtain(providers: Providers, log: Path) -> Path:
    """The program of this machine, else the one in the cache, built if need be.

    Raises ServerMissing without a Go to build it with, ServerFailed with the end of `log`.
    """
    return _on_machine() or obtain_built(VERSITYGW, providers, log)


def versitygw_capability(providers: Providers) -> Capability:
    """Whether it is here or could be built; builds nothing."""
    here = _on_machine()
    if here is not None:
        return Capability(VERSITYGW.name, "machine", _version_of(here))
    built = VERSITYGW.target(providers)
    if os.access(built, os.X_OK):
        return Capability(VERSITYGW.name, "go", VERSITYGW.version)
    if can_build():
        return Capability(VERSITYGW.name, "go", None)
    return Capability(VERSITYGW.name, "none", None, "install Go 1.24 or newer")


def _on_machine() -> Path | None:
    path = shutil.which(VERSITYGW.name)
    if path is None:
        return None
    version = version_tuple(_version_of(Path(path)))
    return Path(path) if version >= version_tuple(VERSITYGW.version)[:2] else None


def _version_of(program: Path) -> str:
    """As it tells, without the `v`; "" for one that was built without a version."""
    try:
        answer = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    said = answer.stdout.splitlines()
    numbers = version_tuple(said[0]) if said else ()
    return ".".join(map(str, numbers))
