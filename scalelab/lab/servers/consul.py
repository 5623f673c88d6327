"""Consul: one agent that is the whole cluster, built from its Go module.

1.12 is the last line under the Mozilla Public License whose module can be built by itself. The
agent keeps what it was told on disk, so that a restarted one still knows who registered.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import ClassVar

from scalelab.lab.servers.base import Server
from scalelab.lab.servers.errors import NotReady
from scalelab.lab.servers.go import GoProgram, can_build, obtain_built
from scalelab.lab.servers.processes import Launch, StopSteps
from scalelab.lab.servers.providers import Capability, Providers, version_tuple

_MODULE = "github.com/hashicorp/consul"
CONSUL = GoProgram(
    name="consul",
    module=_MODULE,
    version="1.12.0",
    package=".",
    version_variable=f"{_MODULE}/version.GitDescribe",
    dropped=(f"{_MODULE}/api", f"{_MODULE}/sdk"),
    raised=(f"{_MODULE}/api@v1.13.0", f"{_MODULE}/sdk@v0.10.0", "golang.org/x/sys@v0.30.0"),
    # Its old x/net reaches into the runtime by name, which newer linkers refuse.
    linking="-checklinkname=0",
)


class Consul(Server):
    """A server agent of its own: it elects itself. It listens on 127.0.0.1 and knows no tokens."""

    default_port = 8500
    death_signal: ClassVar[signal.Signals] = signal.SIGKILL
    stop_steps: StopSteps = ((signal.SIGTERM, 10.0),)
    ready_within_s = 60.0

    def __init__(self, name: str = "consul", port: int | None = None) -> None:
        super().__init__(name, port)

    @property
    def url(self) -> str:
        """Base address of its HTTP API and of its web page."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def dns(self) -> tuple[str, int]:
        """Where it answers questions for names below `.consul`."""
        return "127.0.0.1", self.place.port(f"{self.name}-dns", 8600)

    def prepare(self) -> Launch:
        program = obtain(self.place.providers, self.place.logs / f"{self.name}-build.log")
        self.version = _version_of(program)
        ports = {
            "http": self.port,
            "dns": self.dns[1],
            "grpc": -1,
            "serf_lan": self.place.port(f"{self.name}-serf", 8301),
            "serf_wan": -1,
            "server": self.place.port(f"{self.name}-server", 8300),
        }
        settings = {
            "server": True,
            "bootstrap_expect": 1,
            "node_name": self.name,
            "data_dir": str(self.folder / "data"),
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "ports": ports,
            "performance": {"raft_multiplier": 1},
            "dns_config": {"node_ttl": "0s", "allow_stale": False},
            "ui_config": {"enabled": True},
            "disable_update_check": True,
            "log_level": "warn",
            "leave_on_terminate": False,
        }
        config = self.folder / "consul.json"
        self.place.write(config, json.dumps(settings, indent=2) + "\n")
        return self.launch([str(program), "agent", "-config-file", str(config)])

    def probe(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1.0)
        try:
            connection.request("GET", "/v1/status/leader")
            leader = connection.getresponse().read().decode(errors="replace")
            # A leader that has not yet put itself into the catalogue answers, but with nobody.
            connection.request("GET", f"/v1/health/node/{self.name}?consistent=")
            answer = connection.getresponse()
            known = answer.status == 200 and json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NotReady(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()
        if leader in ("", '""') or not known:
            raise NotReady("no leader yet")


def obtain(providers: Providers, log: Path) -> Path:
    """The program of this machine, else the one in the cache, built if need be.

    Raises ServerMissing without a Go to build it with, ServerFailed with the end of `log`.
    """
    return _on_machine() or obtain_built(CONSUL, providers, log)


def consul_capability(providers: Providers) -> Capability:
    """Whether it is here or could be built; builds nothing."""
    here = _on_machine()
    if here is not None:
        return Capability(CONSUL.name, "machine", _version_of(here))
    if os.access(CONSUL.target(providers), os.X_OK):
        return Capability(CONSUL.name, "go", CONSUL.version)
    if can_build():
        return Capability(CONSUL.name, "go", None)
    return Capability(CONSUL.name, "none", None, "install Go 1.24 or newer, or Consul itself")


def _on_machine() -> Path | None:
    path = shutil.which(CONSUL.name)
    if path is None:
        return None
    version = version_tuple(_version_of(Path(path)))
    return Path(path) if version >= version_tuple(CONSUL.version)[:2] else None


def _version_of(program: Path) -> str:
    """As it tells, without the `v`; "" for one that does not."""
    try:
        answer = subprocess.run(
            [program, "version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    said = answer.stdout.splitlines()
    numbers = version_tuple(said[0]) if said else ()
    return ".".join(map(str, numbers))
