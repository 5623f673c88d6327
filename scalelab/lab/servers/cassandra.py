"""A Cassandra ring: nodes on loopback addresses of their own, ready together.

All nodes of a ring share two ports that no other stack on this machine has reserved (clients, and
each other); what tells them apart is the address: 127.0.0.1, 127.0.0.2, and so on. Every node is a
seed and has its token from the start, so a ring starts in parallel, and joins nothing later.

Readiness is more than an open port: a keyspace made right then leaves a node without it. A new
ring is ready when every node sees all others, all have one schema, and a read that needs every
replica is answered. A node that comes back is ready when it answers; what the others think of it
by then is the business of whoever brought it back.

There is no password and no encryption: the doors are loopback's, and the management port is shut.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Mapping
from typing import ClassVar

from scalelab.errors import CorruptData, InvalidInput
from scalelab.lab.servers import cassandra_config as config
from scalelab.lab.servers.account import hand_over
from scalelab.lab.servers.base import Place, Server
from scalelab.lab.servers.cassandra_protocol import ALL, ONE, Refused, ask
from scalelab.lab.servers.errors import NotReady, ServerMissing
from scalelab.lab.servers.java import (
    CASSANDRA,
    CASSANDRA_VERSION,
    JAVA_17,
    jars_capability,
    jars_of,
    java_17,
)
from scalelab.lab.servers.processes import Launch, StopSteps
from scalelab.lab.servers.providers import Capability, Providers

_MAIN = "org.apache.cassandra.service.CassandraDaemon"
_PROBE_S = 2.0
DATA_CENTRE = "0"
"""What the snitch calls the place of every 127.0.x.x."""


class Cassandra(Server):
    """One node of a ring; made by CassandraRing."""

    default_port = 9042
    death_signal: ClassVar[signal.Signals] = signal.SIGKILL
    stop_steps: StopSteps = ((signal.SIGTERM, 20.0),)
    ready_within_s = 150.0

    def __init__(self, ring: CassandraRing, index: int) -> None:
        super().__init__(f"{ring.name}-{index + 1}", None)
        self.ring = ring
        self._index = index
        self._storage_port = 0
        self._is_new = True

    @property
    def address(self) -> str:
        """The loopback address it listens on."""
        return f"127.0.0.{self._index + 1}"

    def bind(self, place: Place) -> None:
        self._port = place.port(f"{self.ring.name}.cql", self.default_port)
        self._storage_port = place.port(f"{self.ring.name}.storage", 7000)
        super().bind(place)

    def prepare(self) -> Launch:
        _demand_address(self.address)
        program = str(java_17(self.place.providers).path)
        jars = jars_of(CASSANDRA, self.place.providers)
        self.version = CASSANDRA_VERSION
        folder = self.folder
        self._is_new = not (folder / "data").exists()
        scratch = folder / "tmp"
        if not scratch.exists():
            scratch.mkdir(mode=0o700)
            hand_over(self.place.account, scratch)
        node = config.NodeConfig(
            address=self.address,
            seeds=tuple(other.address for other in self.ring.nodes),
            token=config.token_of(self._index, len(self.ring.nodes)),
            cql_port=self.port,
            storage_port=self._storage_port,
            folder=folder,
            settings=self.ring.settings,
        )
        self.place.write(folder / "cassandra.yaml", config.yaml(node))
        self.place.write(folder / "logback.xml", config.logback())
        path = ":".join(str(jar) for jar in jars)
        return self.launch([program, *config.flags(folder), "-cp", path, _MAIN])

    def probe(self) -> None:
        try:
            mine = self._ask("SELECT schema_version FROM system.local", ONE)
            if not self._is_new:
                return
            peers = self._ask("SELECT schema_version FROM system.peers_v2", ONE)
            expected = len(self.ring.nodes) - 1
            if len(peers) != expected:
                raise NotReady(f"sees {len(peers)} of {expected} other nodes")
            if len({row[0] for row in (*mine, *peers)}) != 1:
                raise NotReady("the nodes do not agree on the schema yet")
            if expected >= 2:  # this keyspace has three replicas of everything
                self._ask("SELECT * FROM system_distributed.view_build_status LIMIT 1", ALL)
        except (OSError, CorruptData, Refused) as error:
            raise NotReady(str(error)) from error

    def _ask(self, query: str, level: int) -> list[tuple[bytes | None, ...]]:
        return ask(self.address, self.port, query, level=level, timeout_s=_PROBE_S)


class CassandraRing:
    """`runtime.start(*ring.nodes)` starts it. settings: of cassandra.yaml, for every node."""

    def __init__(
        self,
        name: str = "cassandra",
        *,
        nodes: int = 3,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        if not 1 <= nodes <= 9:
            raise InvalidInput(f"a ring of the lab has 1 to 9 nodes, not {nodes}", field="nodes")
        self.name = name
        self.settings = dict(settings or {})
        self.nodes: tuple[Cassandra, ...] = ()
        self.nodes = tuple(Cassandra(self, index) for index in range(nodes))

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the nodes listen, in their order."""
        return tuple(node.address for node in self.nodes)

    @property
    def port(self) -> int:
        """Where all of them take queries. ServerFailed before a runtime has chosen one."""
        return self.nodes[0].port


def cassandra_capability(providers: Providers) -> Capability:
    """Whether a ring can run here: Java 17, the jars, and more than one loopback address."""
    runtime = providers.capability(JAVA_17)
    if runtime.provider == "none":
        return Capability("cassandra", "none", None, runtime.fix)
    try:
        _demand_address("127.0.0.2")
    except ServerMissing:
        return Capability("cassandra", "none", None, _alias_command("127.0.0.2"))
    return jars_capability(CASSANDRA, providers)


def _demand_address(address: str) -> None:
    """Raise ServerMissing unless this machine lets a server listen on a loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            raise ServerMissing(
                f"Nothing can listen on {address}, where a node of the ring must: {error}. "
                f"Try: {_alias_command(address)}."
            ) from error


def _alias_command(address: str) -> str:
    return f"sudo ifconfig lo0 alias {address} up"
