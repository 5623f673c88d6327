"""The shop on real local servers: what starts, in which order, and where it then is.

    with Runtime(folder, private=True) as runtime:
        shop = start_shop(runtime)

Order: databases and Redis; then, side by side, Kafka and the migrations; then all processes at
once. A second start finds its data, its secrets and its topics and changes none of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo

from month2_databases.resharding import MoverSettings
from month3_messaging.orders import MOVING_TABLES, SLOT, STAYING_TABLE, UNSENT_WHILE_NULL
from month6_capstone.credentials import make_credentials
from month6_capstone.topology import (
    DATABASES,
    MAP_DATABASE,
    PORTS,
    SERVICES,
    SHARD_NAMES,
    Addresses,
    Shard,
    environment,
)
from scalelab.lab.preparation import prepare
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import (
    Kafka,
    Postgres,
    Prometheus,
    Redis,
    ServerFailed,
    ServerMissing,
    ServiceSpec,
)

ORDERS_DATABASE = "orders"
"""The database on every order shard."""


@dataclass(frozen=True, slots=True)
class Seed:
    """What a new shop is filled with. stock: units of each product."""

    products: int = 500
    users: int = 40
    stock: int = 10_000
    number: int = 1


@dataclass(frozen=True, slots=True)
class Shop:
    """A running shop. without: what this machine could not have, one sentence each."""

    runtime: Runtime
    addresses: Addresses
    links: list[tuple[str, str]]
    monolith: bool
    without: tuple[str, ...]

    @property
    def url(self) -> str:
        """The front door."""
        return self.addresses.url("gateway")


def start(runtime: Runtime) -> list[tuple[str, str]]:
    """`./lab up month6`: the shop as separate processes, with the demo's catalogue."""
    return start_shop(runtime).links


def start_shop(
    runtime: Runtime,
    *,
    monolith: bool = False,
    seed: Seed | None = None,
    trace_export: str = "none",
    front_host: str = "127.0.0.1",
) -> Shop:
    """Start everything and return when the front door answers.

    Raises ServerMissing or ServerFailed with a sentence for a person. Prometheus is the one server
    the shop can do without; its absence is reported in `without`.
    """
    ports = {name: runtime.port(name, default) for name, default in PORTS.items()}
    addresses, kafka = _start_stores(runtime, ports, trace_export)
    env = _whole_environment(addresses, seed or Seed())
    with ThreadPoolExecutor(1, thread_name_prefix="prepare") as pool:
        tables = pool.submit(_prepare, runtime, "tables", env)
        runtime.start(kafka)
        _prepare(runtime, "topics", env)
        tables.result()
    runtime.services(*_services(addresses, monolith=monolith, front_host=front_host, env=env))
    links = [("shop", addresses.url("gateway") + "/api/v1/products")]
    without: list[str] = []
    try:
        prometheus = Prometheus(_targets(addresses), port=ports["prometheus"])
        runtime.start(prometheus)
        links.append(("metrics", prometheus.url))
    except (ServerMissing, ServerFailed) as missing:
        without.append(str(missing))
    links += [(f"API of {name}", addresses.url(name) + "/docs") for name in ("identity", "orders")]
    write_description(runtime.root, addresses)
    return Shop(runtime, addresses, links, monolith, tuple(without))


def _start_stores(
    runtime: Runtime, ports: Mapping[str, int], trace_export: str
) -> tuple[Addresses, Kafka]:
    shop_db = Postgres("shop-db", port=ports["shop-db"])
    primaries = {name: Postgres(name, port=ports[name]) for name in SHARD_NAMES}
    replicas = {
        name: primary.add_replica(f"{name}-replica", port=ports[f"{name}-replica"])
        for name, primary in primaries.items()
    }
    redis = Redis("redis", port=ports["redis"])
    kafka = Kafka("kafka", port=ports["kafka"])
    runtime.start(shop_db, redis, *primaries.values(), *replicas.values())
    dsns = {name: shop_db.ensure_database(name, name) for name in DATABASES}
    shards: list[Shard] = []
    for name, primary in primaries.items():
        replica = replicas[name]
        dsn = primary.ensure_database(ORDERS_DATABASE, "orders")
        replica_dsn = replica.dsn(ORDERS_DATABASE, "orders", primary.password("orders"))
        shards.append(Shard(name, dsn, primary.superuser_dsn(), replica.name, replica_dsn))
    secrets = runtime.root / "secrets" / "shop"
    make_credentials(secrets)
    book = runtime.root / "provider" / "book.jsonl"
    book.parent.mkdir(exist_ok=True)
    addresses = Addresses(
        ports=ports,
        hosts={},
        dsns=dsns,
        shards=tuple(shards),
        redis_url=redis.url,
        kafka_bootstrap=f"127.0.0.1:{ports['kafka']}",
        secrets=secrets,
        book_path=book,
        trace_export=trace_export,
    )
    return addresses, kafka


def _whole_environment(addresses: Addresses, seed: Seed) -> dict[str, str]:
    """The variables of every process together; their prefixes keep them apart."""
    env: dict[str, str] = {}
    for process in (*SERVICES, "gateway"):
        env |= environment(process, addresses)
    env |= {
        "SEED_PRODUCTS": str(seed.products),
        "SEED_USERS": str(seed.users),
        "SEED_STOCK": str(seed.stock),
        "SEED_NUMBER": str(seed.number),
    }
    return env


def _prepare(runtime: Runtime, what: str, env: Mapping[str, str]) -> None:
    prepare(runtime, what, ("month6_capstone", f"prepare-{what}"), env)


def _services(
    addresses: Addresses, *, monolith: bool, front_host: str, env: Mapping[str, str]
) -> list[ServiceSpec]:
    front = {"GATEWAY_HOST": front_host}
    admin = addresses.ports["gateway-admin"]
    if monolith:
        argv = ("python", "-m", "month6_capstone", "monolith")
        return [ServiceSpec("monolith", argv, port=admin, env={**env, **front}, restart=True)]
    specs = [
        ServiceSpec(
            name,
            ("python", "-m", "month6_capstone", name),
            port=addresses.ports[name],
            env=environment(name, addresses),
            restart=True,
        )
        for name in SERVICES
    ]
    gateway = environment("gateway", addresses) | front
    argv = ("python", "-m", "month6_capstone", "gateway")
    return [*specs, ServiceSpec("gateway", argv, port=admin, env=gateway, restart=True)]


def _targets(addresses: Addresses) -> dict[str, list[str]]:
    jobs = {name: addresses.ports[name] for name in SERVICES}
    jobs["gateway"] = addresses.ports["gateway-admin"]
    return {name: [f"127.0.0.1:{port}"] for name, port in jobs.items()}


def description_path(root: Path) -> Path:
    """Where a stack keeps the description that `verify` reads."""
    return root / "shop.json"


def write_description(root: Path, addresses: Addresses) -> None:
    """Write where the stores are, for `./lab verify` and for whoever moves slots.

    Mode 0600: it holds passwords.
    """
    path = description_path(root)
    document = {
        "shards": {shard.name: shard.primary_dsn for shard in addresses.shards},
        "shard_owners": {
            shard.name: make_conninfo(shard.admin_dsn, dbname=ORDERS_DATABASE)
            for shard in addresses.shards
        },
        "map": addresses.dsns[MAP_DATABASE],
        "payments": addresses.dsns["payments"],
        "inventory": addresses.dsns["inventory"],
        "kafka_bootstrap": addresses.kafka_bootstrap,
        "book_path": str(addresses.book_path),
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def mover_settings(root: Path) -> MoverSettings:
    """How slots of the shop described in `root` are moved. OSError or ValueError without one.

    The log of a shard that sells is never short for long: other slots' orders, relays and sagas
    write to it too. So the fence closes with some hundred transactions left to read.
    """
    told = json.loads(description_path(root).read_text(encoding="utf-8"))
    return MoverSettings(
        maps=told["map"],
        shards=told["shard_owners"],
        tables=",".join(f"{table}:{SLOT}" for table in MOVING_TABLES),
        emptied=f"{STAYING_TABLE}:{UNSENT_WHILE_NULL}",
        lag_transactions=500,
    )
