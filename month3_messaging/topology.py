"""Which processes the month's stack has, and what each must be told. Pure: addresses in, text out.

The same table serves the native stack and the container file, so a process never learns a new
setting in one place only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TOKEN_ISSUER = "https://issuer.month3.scalelab.test"
TOKEN_AUDIENCE = "scalelab-month3"

PORTS: Mapping[str, int] = {
    "orders": 8301,
    "orders-worker": 8302,
    "partners": 8303,
    "issuer": 8304,
    "desk": 8305,
    "postgres": 5450,
    "kafka": 9392,
}
"""The fixed default port of everything `lab up month3` starts; a taken one is replaced."""

LISTENERS: Mapping[str, int] = {"orders-live": 8310}
"""Second ports of processes that have one, with their defaults: the orders' WebSocket."""

DATABASES = ("orders", "partners", "desk")
"""Each service's own database, with a role of the same name."""

SERVICES: Mapping[str, tuple[str, ...]] = {
    "issuer": ("scalelab.issuer",),
    "partners": ("month3_messaging.partners",),
    "orders": ("month3_messaging.ordering", "door"),
    "orders-worker": ("month3_messaging.ordering", "worker"),
    "desk": ("month3_messaging.deadletters",),
}
"""Our own processes and what `python -m` runs for each."""

JOBS: Mapping[str, tuple[str, ...]] = {
    "orders": ("month3_messaging.ordering", "prepare"),
    "partners": ("month3_messaging.partners", "prepare"),
    "desk": ("month3_messaging.deadletters", "prepare"),
}
"""What is run to its end before the services start, with the environment of that process."""

READERS: Mapping[str, tuple[str, ...]] = {
    "orders": ("payments.payment", "inventory.stock"),
    "payments": ("orders.order",),
    "stock": ("orders.order",),
}
"""The consumer groups, whose dead letters the desk keeps, and the topics that each reads."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is. hosts, ports: by process name; ports: of listeners too. dsns: by
    database. key_file: the issuer's signing key."""

    ports: Mapping[str, int]
    hosts: Mapping[str, str]
    dsns: Mapping[str, str]
    key_file: Path
    bind_host: str = "127.0.0.1"
    log_level: str = "info"

    def url(self, process: str) -> str:
        """The base URL of a process."""
        return f"http://{self.hosts.get(process, '127.0.0.1')}:{self.ports[process]}"

    @property
    def kafka_bootstrap(self) -> str:
        """host:port of the broker."""
        return f"{self.hosts.get('kafka', '127.0.0.1')}:{self.ports['kafka']}"


def environment(process: str, at: Addresses) -> dict[str, str]:
    """The environment of one process; its names are read by the settings class of its room."""
    own = {
        "HOST": at.bind_host,
        "PORT": str(at.ports[process]),
        "LOG_LEVEL": at.log_level,
        **_SETTINGS[process](at),
    }
    prefix = process.upper().replace("-", "_")
    return {f"{prefix}_{name}": value for name, value in own.items()}


def _issuer(at: Addresses) -> dict[str, str]:
    return {"KEY_FILE": str(at.key_file)}


def _partners(at: Addresses) -> dict[str, str]:
    return {"DATABASE_DSN": at.dsns["partners"], "KAFKA_BOOTSTRAP": at.kafka_bootstrap}


def _orders(at: Addresses) -> dict[str, str]:
    return {
        "LIVE_PORT": str(at.ports["orders-live"]),
        "DATABASE_DSN": at.dsns["orders"],
        "PARTNERS_URL": at.url("partners"),
        "JWKS_URL": at.url("issuer") + "/.well-known/jwks.json",
        "TOKEN_ISSUER": TOKEN_ISSUER,
        "TOKEN_AUDIENCE": TOKEN_AUDIENCE,
    }


def _worker(at: Addresses) -> dict[str, str]:
    return {"DATABASE_DSN": at.dsns["orders"], "KAFKA_BOOTSTRAP": at.kafka_bootstrap}


def _desk(at: Addresses) -> dict[str, str]:
    return {
        "DATABASE_DSN": at.dsns["desk"],
        "KAFKA_BOOTSTRAP": at.kafka_bootstrap,
        "SOURCES": json.dumps(READERS, separators=(",", ":")),
        "JWKS_URL": at.url("issuer") + "/.well-known/jwks.json",
        "TOKEN_ISSUER": TOKEN_ISSUER,
        "TOKEN_AUDIENCE": TOKEN_AUDIENCE,
    }


_SETTINGS = {
    "issuer": _issuer,
    "partners": _partners,
    "orders": _orders,
    "orders-worker": _worker,
    "desk": _desk,
}
