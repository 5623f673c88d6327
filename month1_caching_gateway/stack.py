"""This month's stack on real local servers: what starts, in which order, and where it then is.

    with Runtime(folder, private=True) as runtime:
        stack = start_stack(runtime)

Order: PostgreSQL, Redis and Memcached; the tables; three replicas of the catalogue, the token
issuer and the gateway at once; the origin and two edges last. A second start finds its data and its
key and changes neither. Memcached and nginx are the parts the stack can do without.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from month1_caching_gateway.edge import (
    Authority,
    EdgeSettings,
    OriginSettings,
    Servers,
    Tls,
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
from scalelab.lab.preparation import prepare
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

ORIGIN_DELAY_MS, FAR_DELAY_MS = 40.0, 60.0
"""One way: from an edge to the origin, and from the reader to the far edge."""

PURGE_TOKEN = "purge.token"
"""The secret that the purge service wants as a bearer token."""

_HOSTS = ("127.0.0.1", "localhost")
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
    settings = environment(REPLICAS[0], addresses) | {"CATALOG_SEED_PRODUCTS": str(products)}
    prepare(runtime, "tables", (f"{_PACKAGE}.catalog", "prepare"), settings)
    write_routes(addresses)
    _write_database_dsn(runtime.root, addresses)
    runtime.services(*_services(addresses))
    memcached = Memcached("memcached", ports["memcached"])
    missing = [_unless_missing(runtime, memcached), _start_edge(runtime, addresses)]
    edge = [] if missing[1] else _edge_links(addresses)
    links = [
        *edge,
        ("gateway", addresses.url("gateway") + "/api/v2/products"),
        ("gateway's metrics", addresses.url("gateway-admin") + "/metrics"),
        ("API of the catalogue", addresses.url(REPLICAS[0]) + "/docs"),
    ]
    without = tuple(sentence for sentence in missing if sentence)
    return Stack(runtime, addresses, links, without, has_edge=not missing[1])


def _edge_links(addresses: Addresses) -> list[tuple[str, str]]:
    return [
        ("shop window, by the near edge", addresses.url("edge") + "/"),
        ("the same over TLS", f"https://localhost:{addresses.ports['edge-tls']}/"),
        ("shop window, by the far edge", addresses.url("edge-far-line") + "/"),
    ]


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


def _services(addresses: Addresses) -> list[ServiceSpec]:
    """Our own processes. The gateway counts as ready when its admin port says so."""
    return [
        ServiceSpec(
            name,
            ("python", "-m", module_of(name)),
            port=addresses.ports["gateway-admin" if name == "gateway" else name],
            env=environment(name, addresses),
            restart=True,
        )
        for name in (*REPLICAS, "issuer", "gateway")
    ]


def module_of(name: str) -> str:
    """What `python -m` runs as one of our processes; the issuer is the core's."""
    if name == "issuer":
        return "scalelab.issuer"
    return f"{_PACKAGE}.{'catalog' if name in REPLICAS else name}"


def _start_edge(runtime: Runtime, addresses: Addresses) -> str:
    """The origin with the built pages, far from two edge points that keep what it calls public:
    one near the reader, which speaks TLS too, and one far away. Returns why there is none, or
    nothing."""
    ports = addresses.ports
    site = runtime.data / "site"
    build(SITE, site)
    api = Servers((f"127.0.0.1:{ports['gateway']}",))
    origin = Nginx(origin_config(OriginSettings(_HOSTS, str(site), api)), "origin", ports["origin"])
    to_origin = Servers((f"127.0.0.1:{ports['origin-line']}",))
    near = _edge(EdgeSettings("near", _HOSTS, to_origin, _tls(runtime, ports)), "edge", ports)
    far = _edge(EdgeSettings("far", _HOSTS, to_origin), "edge-far", ports)
    try:
        runtime.start(origin)
        runtime.service(_line("origin-line", "origin", ports, ORIGIN_DELAY_MS, "/"))
        runtime.start(near, far)
        runtime.services(
            _line("edge-far-line", "edge-far", ports, FAR_DELAY_MS, "/edge/health"),
            _purge(runtime, {"near": near, "far": far}, ports["purge"]),
        )
    except (ServerMissing, ServerFailed) as missing:
        return str(missing)
    return ""


def _edge(settings: EdgeSettings, name: str, ports: Mapping[str, int]) -> Nginx:
    return Nginx(
        edge_config(settings),
        name,
        ports[name],
        files=edge_files(settings),
        ready_path="/edge/health",
    )


def authority_path(root: Path) -> Path:
    """Where the edge's private authority stands; clients trust `authority.crt` in it."""
    return root / "secrets" / "edge-authority"


def _tls(runtime: Runtime, ports: Mapping[str, int]) -> Tls:
    now = dt.datetime.now(dt.UTC)
    issued = Authority.open(authority_path(runtime.root), now=now).issue(_HOSTS, now=now)
    return Tls(ports["edge-tls"], issued.certificate, issued.key)


def _line(
    name: str, to: str, ports: Mapping[str, int], delay_ms: float, ready_path: str
) -> ServiceSpec:
    """Distance in front of a server. It is ready when the server answers through it."""
    argv = ("python", "-m", "scalelab.lab.faults", "--listen", str(ports[name]))
    argv = (*argv, "--to", str(ports[to]), "--delay-ms", str(delay_ms))
    return ServiceSpec(name, argv, port=ports[name], ready_path=ready_path, restart=True)


def _purge(runtime: Runtime, edges: Mapping[str, Nginx], port: int) -> ServiceSpec:
    caches = {name: str(edge.folder / "cache") for name, edge in edges.items()}
    env = {
        "PURGE_PORT": str(port),
        "PURGE_CACHES": json.dumps(caches),
        "PURGE_TOKEN_FILE": str(runtime.secret_path(PURGE_TOKEN)),
    }
    return ServiceSpec("purge", ("python", "-m", f"{_PACKAGE}.edge"), port=port, env=env)


def _unless_missing(runtime: Runtime, *servers: Server) -> str:
    """Start what the stack can do without; the sentence that says why it is not there, or none."""
    try:
        runtime.start(*servers)
    except (ServerMissing, ServerFailed) as missing:
        return str(missing)
    return ""
