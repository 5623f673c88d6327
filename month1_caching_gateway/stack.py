"""This month's stack on real local servers: what starts, in which order, and where it then is.

    with Runtime(folder, private=True) as runtime:
        stack = start_stack(runtime)

Order: PostgreSQL and Redis; the tables; three replicas of the catalogue, the token issuer and the
gateway at once; the edge last. A second start finds its data and its key and changes neither.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from month1_caching_gateway.topology import (
    PORTS,
    REPLICAS,
    ROUTES_FILE,
    Addresses,
    environment,
    routes_text,
)
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import (
    Nginx,
    Postgres,
    Redis,
    ServerFailed,
    ServerMissing,
    ServiceSpec,
)

_PREPARE_TIMEOUT_S = 120.0
_PACKAGE = "month1_caching_gateway"


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack. without: what this machine could not have, one sentence each."""

    runtime: Runtime
    addresses: Addresses
    links: list[tuple[str, str]]
    without: tuple[str, ...]

    @property
    def url(self) -> str:
        """The gateway, which every request passes."""
        return self.addresses.url("gateway")

    @property
    def edge_url(self) -> str | None:
        """The edge in front of the gateway; None where there is no nginx."""
        return None if self.without else self.addresses.url("edge")


def start(runtime: Runtime) -> list[tuple[str, str]]:
    """`./lab up month1`."""
    stack = start_stack(runtime)
    return [*stack.links, *(("without", sentence) for sentence in stack.without)]


def start_stack(runtime: Runtime, *, products: int = 500) -> Stack:
    """Start everything and return when the gateway answers.

    Raises ServerMissing or ServerFailed with a sentence for a person. The edge is the one part the
    stack can do without; its absence is reported in `without`.
    """
    ports = {name: runtime.port(name, default) for name, default in PORTS.items()}
    postgres = Postgres("postgres", port=ports["postgres"])
    redis = Redis("redis", port=ports["redis"])
    runtime.start(postgres, redis)
    addresses = Addresses(
        ports=ports,
        hosts={},
        database_dsn=postgres.ensure_database("catalog", "catalog"),
        redis_url=redis.url,
        key_file=key_path(runtime.root),
    )
    _prepare(runtime, addresses, products)
    write_routes(runtime.root, addresses)
    _write_database_dsn(runtime.root, addresses)
    runtime.services(*_services(runtime.root, addresses))
    links, without = _start_edge(runtime, addresses)
    links += [
        ("gateway", addresses.url("gateway") + "/api/v1/products"),
        ("gateway's metrics", addresses.url("gateway-admin") + "/metrics"),
        ("API of the catalogue", addresses.url(REPLICAS[0]) + "/docs"),
    ]
    return Stack(runtime, addresses, links, without)


def key_path(root: Path) -> Path:
    """The issuer's signing key below a stack's folder; made by the issuer's first start."""
    return root / "secrets" / "issuer" / "es256.pem"


def routes_path(root: Path) -> Path:
    """The gateway's routes below a stack's folder, filled in."""
    return root / "gateway" / "routes.yaml"


def write_routes(root: Path, addresses: Addresses) -> None:
    """Fill routes.yaml for this stack; replaced whole, so that the gateway never reads half."""
    path = routes_path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(".routes.yaml.new")
    aside.write_text(routes_text(ROUTES_FILE.read_text(encoding="utf-8"), addresses), "utf-8")
    aside.replace(path)


def read_database_dsn(root: Path) -> str:
    """Where the catalogue's tables are, as the stack in `root` noted it. Raises OSError."""
    return _dsn_path(root).read_text(encoding="utf-8")


def _write_database_dsn(root: Path, addresses: Addresses) -> None:
    path = _dsn_path(root)
    path.touch(mode=0o600)
    path.write_text(addresses.database_dsn, encoding="utf-8")


def _dsn_path(root: Path) -> Path:
    return root / "secrets" / "catalog.dsn"


def _prepare(runtime: Runtime, addresses: Addresses, products: int) -> None:
    """Tables and first rows, in a process of its own, so that its libraries are not kept here."""
    log = runtime.log_path("prepare")
    log.parent.mkdir(parents=True, exist_ok=True)
    settings = environment(REPLICAS[0], addresses) | {"CATALOG_SEED_PRODUCTS": str(products)}
    with log.open("ab") as output:
        try:
            done = subprocess.run(
                [sys.executable, "-m", f"{_PACKAGE}.catalog", "prepare"],
                env={**os.environ, **settings},
                cwd=Path(__file__).resolve().parents[1],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=_PREPARE_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ServerFailed(
                f"Preparing the tables took longer than {_PREPARE_TIMEOUT_S:.0f} s; see {log}."
            ) from error
    if done.returncode != 0:
        tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise ServerFailed(
            f'Preparing the tables failed. Its log ends: "{" ".join(tail)}". '
            f"Try: read {log}, or ./lab clean to start from nothing."
        )


def _services(root: Path, addresses: Addresses) -> list[ServiceSpec]:
    specs = [
        ServiceSpec(
            name,
            ("python", "-m", f"{_PACKAGE}.{'catalog' if name in REPLICAS else name}"),
            port=addresses.ports[name],
            env=environment(name, addresses),
            restart=True,
        )
        for name in (*REPLICAS, "issuer")
    ]
    gateway = ServiceSpec(
        "gateway",
        ("python", "-m", f"{_PACKAGE}.gateway_process", str(routes_path(root))),
        port=addresses.ports["gateway-admin"],
        env=environment("gateway", addresses),
        restart=True,
    )
    return [*specs, gateway]


def _start_edge(
    runtime: Runtime, addresses: Addresses
) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """nginx in front of the gateway: its links, or the sentence that says why there is none."""
    config = (
        "server { listen 127.0.0.1:$PORT; location / { "
        f"proxy_pass {addresses.url('gateway')}; proxy_http_version 1.1; "
        'proxy_set_header Host $http_host; proxy_set_header Connection ""; } }'
    )
    edge = Nginx(config, "edge", addresses.ports["edge"], ready_path="/api/v1/products")
    try:
        runtime.start(edge)
    except (ServerMissing, ServerFailed) as missing:
        return [], (str(missing),)
    return [("edge", addresses.url("edge") + "/api/v1/products")], ()
