"""Patroni: PostgreSQL servers that choose their primary among themselves by a lease in etcd.

    cluster = PatroniCluster("orders")
    cluster.start(runtime)              # etcd, then three nodes; returns when the replicas stream
    leader = cluster.leader()           # the node that holds the lease
    runtime.kill(leader.name)           # Patroni and PostgreSQL, as if the machine were gone
    leader.kill_postgres()              # PostgreSQL alone; kill_patroni() the other one
    runtime.pause(leader.name)          # both frozen; runtime.resume wakes them
    cluster.expire_lease()              # do not wait for the lease of a leader that is gone
    cluster.repair(runtime)             # every node runs again and replicates

All waits are polls with a deadline; nothing here judges how long a failover took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import sql

from scalelab.lab.servers.base import Server
from scalelab.lab.servers.errors import NotReady, ServerFailed
from scalelab.lab.servers.etcd import Etcd, EtcdGateway
from scalelab.lab.servers.patroni import PatroniNode
from scalelab.lab.servers.patroni_config import PatroniSettings

if TYPE_CHECKING:
    from scalelab.lab.runtime import Runtime

_WITHIN_S = 120.0
T = TypeVar("T")


class PatroniCluster:
    """etcd and some PostgreSQL nodes under Patroni. tags: by the node's number, Patroni's own.

    etcd: one that runs already, or something that speaks as it does; else the cluster has its own.
    """

    def __init__(
        self,
        name: str = "orders",
        *,
        nodes: int = 3,
        settings: PatroniSettings | None = None,
        tags: Mapping[int, Mapping[str, bool | int]] | None = None,
        etcd: EtcdGateway | None = None,
    ) -> None:
        self.name = name
        self.settings = settings or PatroniSettings()
        self.etcd = etcd or Etcd(f"{name}-etcd")
        self.nodes = tuple(
            PatroniNode(
                f"{name}-{number}",
                scope=name,
                etcd=self.etcd,
                settings=self.settings,
                tags=(tags or {}).get(number),
            )
            for number in range(nodes)
        )

    def start(self, runtime: Runtime) -> None:
        """etcd first, so that it is stopped last; then all nodes, whoever comes first leads."""
        for server in self._own:
            runtime.start(server)
        runtime.start(*self.nodes)

    @property
    def _own(self) -> tuple[Etcd, ...]:
        return (self.etcd,) if isinstance(self.etcd, Etcd) else ()

    @property
    def gateway(self) -> EtcdGateway:
        """The client of what holds the lease."""
        return self.etcd.gateway if isinstance(self.etcd, Etcd) else self.etcd

    def node(self, name: str) -> PatroniNode:
        """The node of that name. ServerFailed if there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise ServerFailed(f"{self.name} has no node named {name}.")

    def holder(self) -> str | None:
        """The name in the lease, as etcd has it now; None where nobody holds it."""
        found = self.gateway.get(self._key("leader"))
        return found[0] if found else None

    def leader(self, *, other_than: str | None = None, within_s: float = _WITHIN_S) -> PatroniNode:
        """Wait for a node that holds the lease and takes writes. ServerFailed if none comes."""

        def found() -> PatroniNode | None:
            name = self.holder()
            if name is None or name == other_than:
                return None
            node = self.node(name)
            return node if _leads(node) else None

        return _await(found, what=f"a leader of {self.name}", within_s=within_s)

    def expire_lease(self) -> None:
        """End the leader's lease now, as etcd does ttl_s after a leader's last word."""
        found = self.gateway.get(self._key("leader"))
        if found is not None and found[1]:
            self.gateway.revoke(found[1])

    def sync_standbys(self) -> frozenset[str]:
        """The replicas that commits wait for and that may be promoted, by etcd's word."""
        _, body = self._ask_any("GET", "/cluster")
        members: list[dict[str, Any]] = body.get("members", [])
        return frozenset(one["name"] for one in members if one.get("role") == "sync_standby")

    def last_fork(self) -> int | None:
        """Where the present timeline left the one before it, in bytes of log; None: no failover."""
        _, body = self._ask_any("GET", "/history")
        rows: list[list[Any]] = body.get("list", [])
        return int(rows[-1][1]) if rows else None

    def configure(self, **changes: Any) -> None:
        """Change what the cluster agrees on (`synchronous_mode=True`); returns when it is so."""
        status, body = self._ask_any("PATCH", "/config", changes)
        if status != 200:
            raise ServerFailed(f"{self.name} refused {changes}: {status} {body}.")
        if "synchronous_mode" in changes:
            self.await_mode(synchronous=bool(changes["synchronous_mode"]))

    def await_mode(self, *, synchronous: bool) -> None:
        """Wait until commits wait for a named replica, or for none."""

        def so() -> bool:
            with psycopg.connect(self.leader().dsn(), connect_timeout=5) as connection:
                row = connection.execute("SHOW synchronous_standby_names").fetchone()
            return bool(row and row[0]) == synchronous and bool(self.sync_standbys()) == synchronous

        _await(so, what=f"synchronous={synchronous} in {self.name}", within_s=_WITHIN_S)

    def repair(self, runtime: Runtime) -> None:
        """Bring back what is down or frozen and wait until every replica streams."""
        states = {one.name: one.state for one in runtime.status()}
        for server in (*self._own, *self.nodes):
            if states[server.name] == "paused":
                runtime.resume(server.name)
            elif states[server.name] != "running" or _is_headless(server):
                runtime.restart(server.name)
        _await(self._is_whole, what=f"one leader of {self.name}, all others stream", within_s=180.0)

    def ensure_database(self, database: str, role: str) -> None:
        """A database owned by a login role, made on the leader if missing; dsn: `node.dsn(...)`."""
        leader = self.leader()
        word = sql.Literal(leader.place.secret(f"{self.name}.{role}"))
        who, what = sql.Identifier(role), sql.Identifier(database)
        with psycopg.connect(leader.dsn(), autocommit=True, connect_timeout=5) as connection:
            known = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,))
            if known.fetchone() is None:
                make = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
                connection.execute(make.format(who, word))
            known = connection.execute("SELECT FROM pg_database WHERE datname = %s", (database,))
            if known.fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(what, who))

    def _is_whole(self) -> bool:
        """One leads; every other one streams from it. A woken primary believes itself at first."""
        leader = self.holder()
        if leader is None or not _leads(self.node(leader)):
            return False
        return all(_streams(node) for node in self.nodes if node.name != leader)

    def _key(self, name: str) -> str:
        return f"/service/{self.name}/{name}"

    def _ask_any(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        problem = ""
        for node in self.nodes:
            try:
                return node.ask(method, path, body)
            except NotReady as error:
                problem = str(error)
        raise ServerFailed(f"No node of {self.name} answers {path}: {problem}.")


def _is_headless(server: Server) -> bool:
    return isinstance(server, PatroniNode) and server.patroni() is None


def _leads(node: PatroniNode) -> bool:
    """It holds the lease, and its PostgreSQL has left recovery: the lease comes a little earlier,
    while the log of the old primary may still be streaming in."""
    try:
        status, body = node.ask("GET", "/primary")
    except NotReady:
        return False
    return status == 200 and body.get("role") in ("primary", "master")


def _streams(node: PatroniNode) -> bool:
    try:
        status, body = node.ask("GET", "/patroni")
    except NotReady:
        return False
    return status == 200 and body.get("replication_state") == "streaming"


def _await(found: Callable[[], T | None], *, what: str, within_s: float) -> T:
    deadline_s = time.monotonic() + within_s
    while True:
        try:
            answer = found()
        except (ServerFailed, psycopg.Error) as error:
            answer, problem = None, str(error)
        else:
            problem = "it is not so"
        if answer:
            return answer
        if time.monotonic() > deadline_s:
            raise ServerFailed(f"Not within {within_s:.0f} s: {what} ({problem}).")
        time.sleep(0.1)
