"""The month on real local servers: two shards with their replicas, a spare one, the order book.

    with Runtime(folder, private=True) as runtime:
        stack = start_stack(runtime)

Order: all primaries and replicas side by side, then the tables, then the order book. A second
start finds its data and its secrets and changes neither. Every primary archives its log from the
first start on, into a repository of its own below the stack's data.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from month2_databases.backup import FolderSettings, FolderTool, Owner, Prepared, archive_into
from month2_databases.orderbook import SLOT, TABLE
from month2_databases.replication import name_owners
from month2_databases.resharding.command import MoverSettings
from month2_databases.shard_backups import ShardBackups
from month2_databases.topology import (
    DATABASE,
    MAP_DATABASE,
    MAP_KEEPER,
    MAP_ROLE,
    PORTS,
    PRIMARIES,
    REPLICAS,
    ROLE,
    SPARE,
    Addresses,
    environment,
)
from scalelab.lab.preparation import prepare
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import (
    Postgres,
    PostgresCopy,
    ProviderOptions,
    Providers,
    ServiceSpec,
)
from scalelab.lab.servers.account import hand_over, server_account
from scalelab.lab.servers.postgres_config import RECIPE
from scalelab.lab.servers.secret_files import SecretFiles
from scalelab.security.kept_secrets import secret_once, write_whole

_PACKAGE = "month2_databases"

HISTORY = "history"
"""Of past months: a database and role of their own on the spare, for the archive to work on."""

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
    servers = _servers(ports, {name: archive_path(runtime.data, name) for name in PRIMARIES})
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
    _name_slots(servers)
    history = servers[SPARE].ensure_database(HISTORY, HISTORY)
    _write_description(runtime, addresses, servers, history)
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


def _servers(ports: Mapping[str, int], archives: Mapping[str, Path]) -> dict[str, Postgres]:
    servers: dict[str, Postgres] = {}
    for name in PRIMARIES:
        settings = {**SETTINGS, **archive_into(archives[name], _owner())}
        primary = Postgres(name, port=ports[name], settings=settings)
        servers[name] = primary
        for replica in REPLICAS[name]:
            servers[replica] = primary.add_replica(replica, port=ports[replica])
    return servers


def _dsns(servers: Mapping[str, Postgres]) -> dict[str, str]:
    """DSNs of the orders' database on every server; makes it on the primaries."""
    dsns: dict[str, str] = {}
    for name in PRIMARIES:
        primary = servers[name]
        dsns[name] = primary.ensure_database(DATABASE, ROLE)
        for replica in REPLICAS[name]:
            dsns[replica] = servers[replica].dsn(DATABASE, ROLE, primary.password(ROLE))
    return dsns


def _name_slots(servers: Mapping[str, Postgres]) -> None:
    """Write down on every primary whose its replication slots are."""
    for name in PRIMARIES:
        owners = {servers[one].slot: f"replica {one}" for one in REPLICAS[name]}
        with psycopg.connect(servers[name].superuser_dsn(DATABASE), autocommit=True) as connection:
            name_owners(connection, owners)


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
    """What `start_stack` noted: `dsns` and `superusers` by server, `archives` by primary, `maps`,
    `history`, `urls`. OSError."""
    return json.loads(description_path(root).read_text(encoding="utf-8"))


def mover_settings(root: Path) -> MoverSettings:
    """What moves slots between the servers of the stack at `root`. OSError."""
    told = read_description(root)
    return MoverSettings(
        maps=told["maps"]["shard-map"],
        shards={name: told["superusers"][name] for name in PRIMARIES},
        tables=f"{TABLE}:{SLOT}",
    )


def _write_description(
    runtime: Runtime, addresses: Addresses, servers: Mapping[str, Postgres], history: str
) -> None:
    document = {
        "dsns": dict(addresses.dsns),
        "superusers": {name: one.superuser_dsn(DATABASE) for name, one in servers.items()},
        "archives": {name: str(archive_path(runtime.data, name)) for name in PRIMARIES},
        "maps": {"shard-map": addresses.map_dsn},
        "history": {HISTORY: history},
        "urls": {"orderbook": addresses.url("orderbook")},
    }
    # Mode 0600: it holds passwords.
    write_whole(description_path(runtime.root), json.dumps(document, indent=1) + "\n", mode=0o600)


def archive_path(data: Path, primary: str) -> Path:
    """The repository of a primary below the stack's data: base backups and log."""
    return data / "backup" / primary


def shard_backups(root: Path) -> ShardBackups:
    """The backup tools of the stack at `root`, which need not run. OSError without a description,
    ServerMissing without PostgreSQL's programs."""
    told = read_description(root)
    programs = Providers(ProviderOptions.from_environment(os.environ)).obtain(RECIPE).path.parent
    key = hashlib.sha256(SecretFiles(root / "secrets").get("backup").encode()).digest()
    tools = {
        name: FolderTool(
            FolderSettings(Path(folder), told["superusers"][name], programs, _owner()), key
        )
        for name, folder in told["archives"].items()
    }
    dsns = {name: told["superusers"][name] for name in tools}
    return ShardBackups(tools, dsns, root / "drills.jsonl")


class Copies:
    """Servers on restored folders beside a running stack: its passwords, free ports, own names."""

    def __init__(self, root: Path) -> None:
        self._runtime = Runtime(root, private=True, keep_data=True)
        self._stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runtime.close()

    def into(self, shard: str) -> Path:
        """A folder for the copy of a shard, not yet made, in one that its server can reach."""
        folder = self._runtime.data / f"{shard}-at-{self._stamp}"
        folder.mkdir(mode=0o700, exist_ok=True)
        hand_over(server_account(), folder)
        return folder / "data"

    @contextmanager
    def start(self, prepared: Prepared) -> Generator[str]:
        """The superuser's DSN of a server on a prepared folder; it is stopped at the end."""
        name = prepared.data.parent.name
        original = Postgres(name.partition("-at-")[0])
        copy = PostgresCopy(name, original, prepared.data, {**SETTINGS, **prepared.settings})
        self._runtime.start(copy)
        try:
            yield copy.superuser_dsn(DATABASE)
        finally:
            self._runtime.stop(copy.name)

    def discard(self, shard: str) -> None:
        """Remove the folder of a copy that is not running."""
        shutil.rmtree(self._runtime.data / f"{shard}-at-{self._stamp}", ignore_errors=True)


def _owner() -> Owner | None:
    account = server_account()
    return Owner(account.uid, account.gid) if account else None
