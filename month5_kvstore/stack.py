"""The month on this machine: three or five nodes of the key-value store.

    with Runtime(folder, private=True) as runtime:
        stack = start_stack(runtime)

A second start finds its data and changes nothing. A node that dies comes back by itself.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from month5_kvstore.log import Identity, PosixDisk, initialise
from scalelab.errors import Conflict, InvalidInput
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import ServiceSpec

_MODULE = "month5_kvstore.node"
_FIRST_PORT, _FIRST_PEER_PORT, _FIRST_ETCD_PORT = 8501, 8511, 8521


@dataclass(frozen=True, slots=True)
class Stack:
    """Running nodes. urls: node id to base address. etcd_urls: where etcd's clients find it."""

    runtime: Runtime
    urls: dict[int, str] = field(default_factory=dict[int, str])
    etcd_urls: dict[int, str] = field(default_factory=dict[int, str])

    @property
    def links(self) -> list[tuple[str, str]]:
        """What a person may open or give to a client of etcd."""
        nodes = [(f"node {node}", f"{url}/status") for node, url in self.urls.items()]
        spoken = "etcd's API" if speaks_grpc() else "etcd's API, JSON alone"
        return [*nodes, (spoken, next(iter(self.etcd_urls.values())))]


def speaks_grpc() -> bool:
    """Whether the package grpcio is here. The small set of packages, with which a stack starts on a
    new clone, lacks it; etcd's API is then served as JSON alone, beside the node's own."""
    return find_spec("grpc") is not None


def node_name(node: int) -> str:
    """Of a node's process."""
    return f"kvnode-{node}"


def start(runtime: Runtime) -> list[tuple[str, str]]:
    """`./lab up month5`."""
    return start_stack(runtime).links


def start_stack(
    runtime: Runtime,
    *,
    nodes: int = 3,
    restart: bool = True,
    settings: Mapping[str, str] | None = None,
    peers: Mapping[int, Mapping[int, str]] | None = None,
) -> Stack:
    """Start all nodes and return when each answers.

    restart: bring back a node that dies. settings: more KVNODE_… variables, without the prefix.
    peers: for a node, where it finds others instead (a proxy between them): id to HOST:PORT.
    Raises ServerFailed with a sentence for a person.
    """
    if nodes not in (1, 3, 5):
        raise InvalidInput("a stack has 1, 3 or 5 nodes", field="nodes")
    ids = range(1, nodes + 1)
    ports = {node: runtime.port(node_name(node), _FIRST_PORT + node - 1) for node in ids}
    peer_ports = peer_ports_of(runtime, nodes)
    etcd_ports = _etcd_ports(runtime, nodes) if speaks_grpc() else {}
    etcd_urls = {
        node: f"http://127.0.0.1:{etcd_ports.get(node, port)}" for node, port in ports.items()
    }
    specs: list[ServiceSpec] = []
    for node in ids:
        found = {other: f"127.0.0.1:{port}" for other, port in peer_ports.items()}
        found |= (peers or {}).get(node, {})
        env = {
            "KVNODE_PORT": str(ports[node]),
            "KVNODE_NODE_ID": str(node),
            "KVNODE_LOG_LEVEL": "warning",
            "KVNODE_FOLDER": str(runtime.root / "nodes" / str(node)),
            "KVNODE_ETCD_PORT": str(etcd_ports.get(node, 0)),
            "KVNODE_ETCD_CLIENTS": ",".join(f"{other}={url}" for other, url in etcd_urls.items()),
            "KVNODE_PEERS": ",".join(f"{other}={at}" for other, at in found.items()),
            **{f"KVNODE_{name.upper()}": value for name, value in (settings or {}).items()},
        }
        _make_folder(runtime.root / "nodes" / str(node), node)
        argv = ("python", "-m", _MODULE)
        specs.append(ServiceSpec(node_name(node), argv, port=ports[node], env=env, restart=restart))
    runtime.services(*specs)
    return Stack(runtime, {node: f"http://127.0.0.1:{ports[node]}" for node in ids}, etcd_urls)


def _make_folder(folder: Path, node: int) -> None:
    """A new node's log; one that is there stays as it is."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(Conflict):
        initialise(PosixDisk(folder), Identity("scalelab", node, secrets.token_hex(16)))


def _etcd_ports(runtime: Runtime, nodes: int) -> dict[int, int]:
    return {
        node: runtime.port(f"{node_name(node)}-etcd", _FIRST_ETCD_PORT + node - 1)
        for node in range(1, nodes + 1)
    }


def peer_ports_of(runtime: Runtime, nodes: int) -> dict[int, int]:
    """Where the nodes hear each other."""
    return {
        node: runtime.port(f"{node_name(node)}-peers", _FIRST_PEER_PORT + node - 1)
        for node in range(1, nodes + 1)
    }
