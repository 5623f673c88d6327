"""Which processes the shop has, and what each must be told. Pure: addresses in, environment out.

The same table serves the native stack, the monolith and the container file, so a process never
learns a new setting in one place only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TOKEN_ISSUER = "https://identity.scalelab.test"
TOKEN_AUDIENCE = "scalelab-shop"

PORTS: Mapping[str, int] = {
    "gateway": 8080,
    "identity": 8081,
    "catalog": 8082,
    "orders": 8083,
    "orders-worker": 8084,
    "payments": 8085,
    "inventory": 8086,
    "provider": 8087,
    "gateway-admin": 8090,
    "shop-db": 5440,
    "shard-0": 5441,
    "shard-0-replica": 5442,
    "shard-1": 5443,
    "shard-1-replica": 5444,
    "redis": 6390,
    "kafka": 9192,
    "prometheus": 9095,
}
"""The fixed default port of everything `lab up month6` starts; a taken one is replaced."""

SHARD_NAMES = ("shard-0", "shard-1")
"""The order shards; slots are split evenly between them, in this order, until some are moved."""

DEMO_EMAIL = "demo@example.com"
DEMO_PASSWORD = "demo-shop-2026"
"""Public on purpose: whoever starts a demo may sign in to it."""

SERVICES = ("provider", "identity", "catalog", "inventory", "payments", "orders", "orders-worker")
"""The shop's own processes behind the gateway, in the order of their dependencies."""

CLIENTS = ("orders", "operator")
"""Who may ask identity for a service token by client credentials."""

TOPICS: Mapping[str, int] = {"orders.order": 6, "payments.payment": 6, "inventory.stock": 6}
"""Event topics and their partition counts; retry and dead-letter topics are derived."""

CONSUMERS: Mapping[str, tuple[str, ...]] = {
    "orders": ("payments.payment", "inventory.stock"),
    "payments": ("orders.order",),
    "inventory": ("orders.order",),
}
"""Consumer group → topics it reads."""

MAP_DATABASE = "shardmap"
"""Where it is kept which shard has which slot of the orders, and who is on the way."""

DATABASES = ("identity", "catalog", "payments", "inventory", MAP_DATABASE)
"""The databases of the services' own server, each with a role of the same name."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard of orders: DSNs of the primary, of its admin role, and of its one replica."""

    name: str
    primary_dsn: str
    admin_dsn: str
    replica_name: str
    replica_dsn: str


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is. hosts, ports: by process name; dsns: by database name.

    trace_export: as the processes' setting; "{process}" in it becomes the process's name.
    """

    ports: Mapping[str, int]
    hosts: Mapping[str, str]
    dsns: Mapping[str, str]
    shards: tuple[Shard, ...]
    redis_url: str
    kafka_bootstrap: str
    secrets: Path
    book_path: Path
    trace_export: str = "none"
    log_level: str = "info"
    bind_host: str = "127.0.0.1"

    def url(self, process: str) -> str:
        """The base URL of one of the shop's processes."""
        return f"http://{self.hosts.get(process, '127.0.0.1')}:{self.ports[process]}"


def demo_emails(count: int) -> list[str]:
    """The addresses of the seeded customers; the first is the one that people are told."""
    return [DEMO_EMAIL, *(f"shopper-{n:03d}@example.com" for n in range(1, count))]


def all_topics() -> dict[str, int]:
    """Every topic with its partition count: events, and per group its retries and dead letters."""
    topics = dict(TOPICS)
    for group, sources in CONSUMERS.items():
        for source in sources:
            for suffix in ("retry.5s", "retry.1m", "dlq"):
                topics[f"{source}.{group}.{suffix}"] = 1
    return topics


def shards_setting(shards: tuple[Shard, ...]) -> str:
    """The JSON form of the shards, as the router's settings read it."""
    return json.dumps(
        [
            {
                "name": shard.name,
                "primary": shard.primary_dsn,
                "replicas": [{"name": shard.replica_name, "dsn": shard.replica_dsn}],
            }
            for shard in shards
        ]
    )


def environment(process: str, at: Addresses) -> dict[str, str]:
    """The environment of one process of the shop (see each room's settings class)."""
    prefix = process.upper().replace("-", "_") + "_"
    common = {
        "host": at.bind_host,
        "port": str(at.ports[process]),
        "trace_export": at.trace_export.replace("{process}", process),
        "log_level": at.log_level,
    }
    own = {**common, **_tokens(process, at), **_SETTINGS[process](at)}
    return {prefix + name.upper(): value for name, value in own.items()}


_UNTOKENED = frozenset({"provider", "orders-worker"})
"""Nobody calls these with a token: the one trusts its callers on loopback, the other has none."""


def _tokens(process: str, at: Addresses) -> dict[str, str]:
    if process in _UNTOKENED:
        return {}
    tokens = {"token_issuer": TOKEN_ISSUER, "token_audience": TOKEN_AUDIENCE}
    if process == "identity":
        return tokens
    tokens["jwks_url"] = at.url("identity") + "/.well-known/jwks.json"
    if process in CLIENTS:
        tokens["token_url"] = at.url("identity") + "/oauth2/token"
        tokens["client_id"] = process
        tokens["client_secret_file"] = str(at.secrets / f"client-{process}")
    return tokens


def _identity(at: Addresses) -> dict[str, str]:
    return {
        "database_dsn": at.dsns["identity"],
        "key_dir": str(at.secrets / "signing-keys"),
        "clients_file": str(at.secrets / "clients.json"),
    }


def _catalog(at: Addresses) -> dict[str, str]:
    return {"database_dsn": at.dsns["catalog"], "redis_url": at.redis_url}


def _inventory(at: Addresses) -> dict[str, str]:
    return {"database_dsn": at.dsns["inventory"], "kafka_bootstrap": at.kafka_bootstrap}


def _payments(at: Addresses) -> dict[str, str]:
    return {
        "database_dsn": at.dsns["payments"],
        "kafka_bootstrap": at.kafka_bootstrap,
        "provider_url": at.url("provider"),
    }


def _orders(at: Addresses) -> dict[str, str]:
    return {
        "shards": shards_setting(at.shards),
        "map_dsn": at.dsns[MAP_DATABASE],
        "consistency_secret_file": str(at.secrets / "consistency"),
        "catalog_url": at.url("catalog"),
        "inventory_url": at.url("inventory"),
    }


def _orders_worker(at: Addresses) -> dict[str, str]:
    return {
        "shards": shards_setting(at.shards),
        "map_dsn": at.dsns[MAP_DATABASE],
        "admin_dsns": json.dumps({shard.name: shard.admin_dsn for shard in at.shards}),
        "consistency_secret_file": str(at.secrets / "consistency"),
        "kafka_bootstrap": at.kafka_bootstrap,
    }


def _provider(at: Addresses) -> dict[str, str]:
    return {"book_path": str(at.book_path)}


def _gateway(at: Addresses) -> dict[str, str]:
    return {
        "admin_port": str(at.ports["gateway-admin"]),
        "redis_url": at.redis_url,
        "identity_url": at.url("identity"),
        "catalog_url": at.url("catalog"),
        "orders_url": at.url("orders"),
    }


_SETTINGS = {
    "identity": _identity,
    "catalog": _catalog,
    "inventory": _inventory,
    "payments": _payments,
    "orders": _orders,
    "orders-worker": _orders_worker,
    "provider": _provider,
    "gateway": _gateway,
}
