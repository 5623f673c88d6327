"""The month on real local servers: two shards with their replicas, a spare one, the order book.

    with Runtime(folder, private=True) as runtime:
        stack = start_stack(runtime)

Order: all primaries and replicas side by side, then the tables, then the order book. A second
start finds its data and its secrets and changes neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from month2_databases.topology import (
    DATABASE,
    MAP_DATABASE,
    MAP_KEEPER,
    MAP_ROLE,
    PORTS,
    REPLICAS,
    ROLE,
    SHARDS,
    SPARE,
    Addresses,
    environment,
)
from scalelab.lab.preparation import prepare
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Postgres, ServiceSpec
from scalelab.security.kept_secrets import secret_once, write_whole

_PACKAGE = "month2_databases"

SETTINGS: Mapping[str, str] = {
    "wal_level": "logical",
    "max_prepared_transactions": "32",
    "max_slot_wal_keep_size": "512MB",
}
"""Of every server: slots can be moved by logical decoding, transactions prepared, and a replica
that never comes back does not fill the primary's disk."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack. servers: by name, primaries and replicas."""

    runtime: Runtime
    addresses: Addresses
    servers: Mapping[str, Postgres]
    links: list[tuple[str, str]]

    @property
    def url(self) -> str:
        """The order book."""
        return self.addresses.url("orderbook")


def start(runtime: Runtime) -> list[tuple[str, str]]:
    """`./lab up month2`."""
    return start_stack(runtime).links


def start_stack(runtime: Runtime) -> Stack:
    """Start everything and return when the order book answers.

    Raises ServerMissing or ServerFailed with a sentence for a person.
    """
    ports = {name: runtime.port(name, default) for name, default in PORTS.items()}
    servers = _servers(ports)
    runtime.start(*servers.values())
    addresses = Addresses(
        ports,
        {},
        _dsns(servers),
        servers[MAP_KEEPER].ensure_database(MAP_DATABASE, MAP_ROLE),
        token_key_path(runtime.root),
    )
    addresses.token_key_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    secret_once(addresses.token_key_file)
    env = environment(addresses)
    prepare(runtime, "tables", (f"{_PACKAGE}.orderbook", "prepare"), env)
    _write_description(runtime.root, addresses, servers)
    runtime.services(
        ServiceSpec(
            "orderbook",
            ("python", "-m", f"{_PACKAGE}.orderbook"),
            port=ports["orderbook"],
            env=env,
            restart=True,
        )
    )
    return Stack(runtime, addresses, servers, _links(addresses))


def _servers(ports: Mapping[str, int]) -> dict[str, Postgres]:
    servers: dict[str, Postgres] = {}
    for name in (*SHARDS, SPARE):
        primary = Postgres(name, port=ports[name], settings=SETTINGS)
        servers[name] = primary
        for replica in REPLICAS[name]:
            servers[replica] = primary.add_replica(replica, port=ports[replica])
    return servers


def _dsns(servers: Mapping[str, Postgres]) -> dict[str, str]:
    """DSNs of the orders' database on every server; makes it on the primaries."""
    dsns: dict[str, str] = {}
    for name in (*SHARDS, SPARE):
        primary = servers[name]
        dsns[name] = primary.ensure_database(DATABASE, ROLE)
        for replica in REPLICAS[name]:
            dsns[replica] = servers[replica].dsn(DATABASE, ROLE, primary.password(ROLE))
    return dsns


def _links(addresses: Addresses) -> list[tuple[str, str]]:
    url = addresses.url("orderbook")
    return [
        ("order book", url + "/docs"),
        ("newest orders, from all shards", url + "/api/v1/orders"),
        ("shard map", url + "/api/v1/shards"),
        ("metrics", url + "/metrics"),
    ]


def token_key_path(root: Path) -> Path:
    """The secret of the consistency tokens below a stack's folder."""
    return root / "secrets" / "consistency-token"


def description_path(root: Path) -> Path:
    """Where a stack keeps the description that the month's commands read."""
    return root / "month2.json"


def read_description(root: Path) -> dict[str, dict[str, str]]:
    """What `start_stack` noted: `dsns` and `superusers` by server, `maps`, `urls`. OSError."""
    return json.loads(description_path(root).read_text(encoding="utf-8"))


def _write_description(root: Path, addresses: Addresses, servers: Mapping[str, Postgres]) -> None:
    document = {
        "dsns": dict(addresses.dsns),
        "superusers": {name: one.superuser_dsn(DATABASE) for name, one in servers.items()},
        "maps": {"shard-map": addresses.map_dsn},
        "urls": {"orderbook": addresses.url("orderbook")},
    }
    # Mode 0600: it holds passwords.
    write_whole(description_path(root), json.dumps(document, indent=1) + "\n", mode=0o600)
