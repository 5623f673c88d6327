"""etcd: one member of its own, which keeps small agreed facts (who leads) under leases.

Clients that need little speak its JSON gateway over HTTP: keys and values go as base64. One member
keeps a laboratory honest about everything but etcd's own loss; real ones have three or five.
"""

from __future__ import annotations

import base64
import http.client
import json
import signal
from typing import Any, ClassVar

from scalelab.lab.servers.base import Server
from scalelab.lab.servers.errors import ServerFailed
from scalelab.lab.servers.processes import Launch, StopSteps
from scalelab.lab.servers.providers import Recipe
from scalelab.lab.servers.service import http_probe

RECIPE = Recipe(
    server="etcd",
    program="etcd",
    minimum=(3, 4),
    version=r"etcd Version: (\d+(?:\.\d+)+)",
    places=("/usr/bin/etcd", "/opt/homebrew/bin/etcd"),
    packages=("etcd-server",),
    units=("etcd.service", "etcd2.service"),
)

CLIENT_RECIPE = Recipe(
    server="etcdctl",
    program="etcdctl",
    minimum=(3, 4),
    version_flag="version",
    version=r"etcdctl version: (\d+(?:\.\d+)+)",
    places=("/usr/bin/etcdctl", "/opt/homebrew/bin/etcdctl"),
    packages=("etcd-client",),
)
"""etcd's own command line, which tests drive what speaks its language with."""


class Etcd(Server):
    """A single etcd member. It knows no password: it listens on 127.0.0.1 only."""

    default_port = 2379
    death_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_steps: StopSteps = ((signal.SIGTERM, 10.0),)

    def __init__(self, name: str = "etcd", port: int | None = None) -> None:
        super().__init__(name, port)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port for clients."""
        return "127.0.0.1", self.port

    def prepare(self) -> Launch:
        program = self.place.providers.obtain(RECIPE)
        self.version = program.version
        client = f"http://127.0.0.1:{self.port}"
        peer = f"http://127.0.0.1:{self.place.port(f'{self.name}-peer', 2380)}"
        options = {
            "name": self.name,
            "data-dir": str(self.folder / "member"),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"{self.name}={peer}",
            "logger": "zap",
            "log-level": "warn",
        }
        return self.launch([str(program.path), *(f"--{key}={v}" for key, v in options.items())])

    def probe(self) -> None:
        http_probe(self.port, "/health")

    @property
    def gateway(self) -> EtcdGateway:
        """Its small client."""
        return EtcdGateway(self.name, self.port)


class EtcdGateway:
    """A client of etcd's JSON gateway on 127.0.0.1, or of one that speaks as it does."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port

    def get(self, key: str) -> tuple[str, int] | None:
        """A key's value and the number of its lease (0: none); None where there is no such key."""
        found = self._ask("kv/range", {"key": _encoded(key)}).get("kvs")
        if not found:
            return None
        return base64.b64decode(found[0]["value"]).decode(), int(found[0].get("lease", 0))

    def revoke(self, lease: int) -> None:
        """End a lease before its time: every key under it goes, as when it runs out."""
        self._ask("lease/revoke", {"ID": lease})

    def _ask(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10.0)
        try:
            connection.request("POST", f"/v3/{method}", json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServerFailed(f"{self.name} does not answer {method}: {error}.") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise ServerFailed(f"{self.name} answered {answer.status} to {method}: {text[:200]!r}.")
        return json.loads(text)


def _encoded(key: str) -> str:
    return base64.b64encode(key.encode()).decode()
