"""This month's stack on real local servers: what starts, in which order, and where it then is.

    with Runtime(folder, private=True) as runtime:
        stack = start_stack(runtime)

Order: PostgreSQL, Redis and Memcached; the tables; three replicas of the catalogue, the token
issuer and the gateway at once; the origin and the edge last. A second start finds its data and its
key and changes neither. Memcached and nginx are the parts the stack can do without.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from month1_caching_gateway.edge import (
    EdgeSettings,
    OriginSettings,
    Servers,
    build,
    edge_config,
    edge_files,
    origin_config,
)
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
    Memcached,
    Nginx,
    Postgres,
    Redis,
    Server,
    ServerFailed,
    ServerMissing,
    ServiceSpec,
)

SITE = Path(__file__).with_name("edge") / "site"
"""Pages as they are written; `edge.build` gives their files names that may be kept for ever."""

_HOSTS = ("127.0.0.1", "localhost")
_PREPARE_TIMEOUT_S = 120.0
_PACKAGE = "month1_caching_gateway"


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack. without: what this machine could not have, one sentence each."""

    runtime: Runtime
    addresses: Addresses
    links: list[tuple[str, str]]
    without: tuple[str, ...]
    has_edge: bool

    @property
    def url(self) -> str:
        """The gateway, which every request passes."""
        return self.addresses.url("gateway")

    @property
    def edge_url(self) -> str | None:
        """The edge in front of the gateway; None where there is no nginx."""
        return self.addresses.url("edge") if self.has_edge else None


def start(runtime: Runtime) -> list[tuple[str, str]]:
    """`./lab up month1`."""
    stack = start_stack(runtime)
    return [*stack.links, *(("without", sentence) for sentence in stack.without)]


def start_stack(runtime: Runtime, *, products: int = 500) -> Stack:
    """Start everything and return when the gateway answers.

    Raises ServerMissing or ServerFailed with a sentence for a person. What the stack can do without
    is reported in `without`.
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
        routes_file=routes_path(runtime.root),
        trusted_proxies="127.0.0.1",
    )
    _prepare(runtime, addresses, products)
    write_routes(addresses)
    _write_database_dsn(runtime.root, addresses)
    runtime.services(*_services(addresses))
    memcached = Memcached("memcached", ports["memcached"])
    missing = [_unless_missing(runtime, memcached), _start_edge(runtime, addresses)]
    edge = [] if missing[1] else [("shop window, by the edge", addresses.url("edge") + "/")]
    links = [
        *edge,
        ("gateway", addresses.url("gateway") + "/api/v2/products"),
        ("gateway's metrics", addresses.url("gateway-admin") + "/metrics"),
        ("API of the catalogue", addresses.url(REPLICAS[0]) + "/docs"),
    ]
    without = tuple(sentence for sentence in missing if sentence)
    return Stack(runtime, addresses, links, without, has_edge=not missing[1])


def key_path(root: Path) -> Path:
    """The issuer's signing key below a stack's folder; made by the issuer's first start."""
    return root / "secrets" / "issuer" / "es256.pem"


def routes_path(root: Path) -> Path:
    """The gateway's routes below a stack's folder, filled in."""
    return root / "gateway" / "routes.yaml"


def write_routes(addresses: Addresses) -> None:
    """Fill routes.yaml for this stack; replaced whole, so that the gateway never reads half."""
    path = addresses.routes_file
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


def _services(addresses: Addresses) -> list[ServiceSpec]:
    """Our own processes. The gateway counts as ready when its admin port says so."""
    return [
        ServiceSpec(
            name,
            ("python", "-m", f"{_PACKAGE}.{'catalog' if name in REPLICAS else name}"),
            port=addresses.ports["gateway-admin" if name == "gateway" else name],
            env=environment(name, addresses),
            restart=True,
        )
        for name in (*REPLICAS, "issuer", "gateway")
    ]


def _start_edge(runtime: Runtime, addresses: Addresses) -> str:
    """nginx twice in front of the gateway: the origin, which has the built pages, and an edge point
    that keeps what the origin calls public. Returns why there is none, or nothing."""
    site = runtime.data / "site"
    build(SITE, site)
    origin = Nginx(
        origin_config(
            OriginSettings(
                hosts=_HOSTS,
                site=str(site),
                api=Servers((f"127.0.0.1:{addresses.ports['gateway']}",)),
            )
        ),
        "origin",
        addresses.ports["origin"],
    )
    settings = EdgeSettings(
        "near", hosts=_HOSTS, origin=Servers((f"127.0.0.1:{addresses.ports['origin']}",))
    )
    edge = Nginx(
        edge_config(settings),
        "edge",
        addresses.ports["edge"],
        files=edge_files(settings),
        ready_path="/edge/health",
    )
    return _unless_missing(runtime, origin, edge)


def _unless_missing(runtime: Runtime, *servers: Server) -> str:
    """Start what the stack can do without; the sentence that says why it is not there, or none."""
    try:
        runtime.start(*servers)
    except (ServerMissing, ServerFailed) as missing:
        return str(missing)
    return ""
