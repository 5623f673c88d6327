"""etcd: members that keep small agreed facts (who leads) under leases.

    cluster = EtcdCluster("etcd")
    cluster.start(runtime)              # three members; returns when they have a leader
    cluster.leader()                    # the member that leads

Clients that need little speak its JSON gateway over HTTP: keys and values go as base64. A single
`Etcd` keeps a laboratory honest about everything but etcd's own loss.
"""

from __future__ import annotations

import base64
import http.client
import json
import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from scalelab.lab.servers.base import Server
from scalelab.lab.servers.errors import ServerFailed
from scalelab.lab.servers.processes import Launch, StopSteps
from scalelab.lab.servers.providers import Recipe
from scalelab.lab.servers.service import http_probe

if TYPE_CHECKING:
    from scalelab.lab.runtime import Runtime

_WITHIN_S = 60.0

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
    """A member of etcd, alone unless `members` names the whole cluster, this one too.

    It knows no password: it listens on 127.0.0.1 only.
    """

    default_port = 2379
    death_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_steps: StopSteps = ((signal.SIGTERM, 10.0),)

    def __init__(
        self, name: str = "etcd", port: int | None = None, *, members: Sequence[str] = ()
    ) -> None:
        super().__init__(name, port)
        self._members = tuple(members) or (name,)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port for clients."""
        return "127.0.0.1", self.port

    def prepare(self) -> Launch:
        program = self.place.providers.obtain(RECIPE)
        self.version = program.version
        client = f"http://127.0.0.1:{self.port}"
        peers = {
            member: f"http://127.0.0.1:{self.place.port(f'{member}-peer', 2380)}"
            for member in self._members
        }
        options = {
            "name": self.name,
            "data-dir": str(self.folder / "member"),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peers[self.name],
            "initial-advertise-peer-urls": peers[self.name],
            "initial-cluster": ",".join(f"{member}={url}" for member, url in peers.items()),
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


class EtcdCluster:
    """Some members of one etcd, on this machine."""

    def __init__(self, name: str = "etcd", *, members: int = 3) -> None:
        names = tuple(f"{name}-{number}" for number in range(1, members + 1))
        self.name = name
        self.members = tuple(Etcd(one, members=names) for one in names)

    def start(self, runtime: Runtime) -> None:
        """All at once: none is ready before a majority has chosen a leader."""
        runtime.start(*self.members)

    def leader(self, *, within_s: float = _WITHIN_S) -> Etcd:
        """Wait for a member that says it leads. ServerFailed if none does."""
        end_s = time.monotonic() + within_s
        while time.monotonic() < end_s:
            for member in self.members:
                try:
                    if member.gateway.leads():
                        return member
                except ServerFailed:
                    continue  # it is down; another one leads
            time.sleep(0.05)
        raise ServerFailed(f"No member of {self.name} leads after {within_s:.0f} s.")


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

    def put(self, key: str, value: str) -> None:
        """Write one key, under no lease."""
        self._ask("kv/put", {"key": _encoded(key), "value": _encoded(value)})

    def revoke(self, lease: int) -> None:
        """End a lease before its time: every key under it goes, as when it runs out."""
        self._ask("lease/revoke", {"ID": lease})

    def leads(self) -> bool:
        """Whether the member that answers is its cluster's leader."""
        status = self._ask("maintenance/status", {})
        return status.get("leader", "0") == status["header"]["member_id"]

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
