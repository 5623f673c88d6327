"""A service of our own as a child process: any command that answers GET on a readiness path."""

from __future__ import annotations

import http.client
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from scalelab.lab.servers.base import Server, environment
from scalelab.lab.servers.errors import NotReady
from scalelab.lab.servers.processes import Launch

_PROJECT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """What to run and when it counts as ready.

    argv: the command; "python" as its first word means this interpreter. env: joins the few
    variables a child inherits (PATH, locale, time zone, certificates). port: where it listens, on
    127.0.0.1. ready_path: answers 200 when ready. restart: bring it back when it dies by itself.
    memory_mb: cap on private writable memory, MiB. drain_s: seconds it may take to stop.
    """

    name: str
    argv: tuple[str, ...]
    port: int
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    ready_path: str = "/health/ready"
    restart: bool = False
    memory_mb: int | None = None
    cwd: Path | None = None
    drain_s: float = 12.0
    ready_within_s: float = 60.0
    version: str | None = None


class Service(Server):
    """A ServiceSpec as a server. It runs as whoever started the stack, not as `nobody`."""

    default_port = 8000
    death_signal: ClassVar[signal.Signals] = signal.SIGKILL

    def __init__(self, spec: ServiceSpec) -> None:
        super().__init__(spec.name, spec.port)
        self.spec = spec
        self.version = spec.version
        self.restart = spec.restart
        self.ready_within_s = spec.ready_within_s
        self.stop_steps = ((signal.SIGTERM, spec.drain_s),)

    @property
    def url(self) -> str:
        """Base address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> Launch:
        first, *rest = self.spec.argv
        env = {
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(_PROJECT),
            "MALLOC_ARENA_MAX": "2",  # glibc's per-thread arenas double a small service's memory
            **self.spec.env,
        }
        return Launch(
            argv=(sys.executable if first == "python" else first, *rest),
            env=environment(env),
            cwd=self.spec.cwd or _PROJECT,
            log=self.log,
            death_signal=self.death_signal,
            data_limit_mb=self.spec.memory_mb,
        )

    def probe(self) -> None:
        http_probe(self.port, self.spec.ready_path)


def http_probe(port: int, path: str, *, any_status: bool = False) -> None:
    """GET a path on 127.0.0.1, a second at most; NotReady unless it answers 200 (or at all)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise NotReady(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if status != 200 and not any_status:
        raise NotReady(f"GET {path} answered {status}")
