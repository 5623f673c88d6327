"""Which processes the month's stack has, and what each must be told. Pure: addresses in, text out.

The same table serves the native stack and the container file, so a process never learns a new
setting in one place only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

TOKEN_ISSUER = "https://issuer.month1.scalelab.test"
TOKEN_AUDIENCE = "scalelab-catalog"
READER_SCOPE, KEEPER_SCOPE = "shop", "admin"

PORTS: Mapping[str, int] = {
    "edge": 8100,
    "gateway": 8101,
    "gateway-admin": 8102,
    "issuer": 8103,
    "origin": 8104,
    "origin-line": 8105,
    "edge-tls": 8143,
    "edge-far": 8106,
    "edge-far-line": 8107,
    "purge": 8108,
    "catalog-1": 8111,
    "catalog-2": 8112,
    "catalog-3": 8113,
    "postgres": 5430,
    "redis": 6380,
    "memcached": 11311,
}
"""The fixed default port of everything `lab up month1` starts; a taken one is replaced."""

REPLICAS = ("catalog-1", "catalog-2", "catalog-3")
"""The catalogue's processes behind the gateway; any of them may go at any time."""

ROUTES_FILE = Path(__file__).with_name("routes.yaml")
"""The gateway's routes with placeholders; `routes_text` fills them."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is. hosts, ports: by process name. key_file: the issuer's signing key.
    routes_file: the filled routes. trusted_proxies: whose X-Forwarded-For the gateway believes.
    """

    ports: Mapping[str, int]
    hosts: Mapping[str, str]
    database_dsn: str
    redis_url: str
    key_file: Path
    routes_file: Path
    trusted_proxies: str = ""
    bind_host: str = "127.0.0.1"
    log_level: str = "info"

    def host(self, process: str) -> str:
        """The name or address of a process's machine."""
        return self.hosts.get(process, "127.0.0.1")

    def url(self, process: str) -> str:
        """The base URL of a process."""
        return f"http://{self.host(process)}:{self.ports[process]}"


def environment(process: str, at: Addresses) -> dict[str, str]:
    """The environment of one of our own processes (see each room's settings class)."""
    kind = "catalog" if process in REPLICAS else process
    own = {
        "host": at.bind_host,
        "port": str(at.ports[process]),
        "log_level": at.log_level,
        **_SETTINGS[kind](at),
    }
    return {f"{kind.upper()}_{name.upper()}": value for name, value in own.items()}


def routes_text(template: str, at: Addresses) -> str:
    """The routes with hosts and ports in place of `${CATALOG_1_HOST}`, `${CATALOG_1_PORT}`, ….

    Raises KeyError for a placeholder that names no process of the stack.
    """
    values: dict[str, str] = {}
    for process, port in at.ports.items():
        name = process.upper().replace("-", "_")
        values |= {f"{name}_HOST": at.host(process), f"{name}_PORT": str(port)}
    return Template(template).substitute(values)


def _tokens(at: Addresses) -> dict[str, str]:
    return {
        "jwks_url": at.url("issuer") + "/.well-known/jwks.json",
        "token_issuer": TOKEN_ISSUER,
        "token_audience": TOKEN_AUDIENCE,
    }


def _catalog(at: Addresses) -> dict[str, str]:
    return {"database_dsn": at.database_dsn, "redis_url": at.redis_url, **_tokens(at)}


def _issuer(at: Addresses) -> dict[str, str]:
    return {"key_file": str(at.key_file)}


def _gateway(at: Addresses) -> dict[str, str]:
    return {
        "config": str(at.routes_file),
        "trusted_proxies": at.trusted_proxies,
        "admin_host": at.bind_host,
        "admin_port": str(at.ports["gateway-admin"]),
        "redis_url": at.redis_url,
        **_tokens(at),
    }


_SETTINGS = {"catalog": _catalog, "issuer": _issuer, "gateway": _gateway}
