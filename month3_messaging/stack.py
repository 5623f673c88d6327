"""The month on real local servers: orders, their worker and their partners around Kafka.

    with Runtime(folder, private=True) as runtime:
        stack = start_stack(runtime)

Order: PostgreSQL, Kafka and Redis side by side, the tables, then our own processes. A second start
finds its data and its key and changes neither.

The background jobs (invoices by mail) need packages that the small set lacks, with which a stack
starts on a new clone. Without them the stack has no Redis and none of the jobs' processes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from month3_messaging.status import PATH
from month3_messaging.topology import (
    CHOICES,
    DATABASES,
    INVOICING,
    INVOICING_DATABASE,
    INVOICING_PORTS,
    JOBS,
    LISTENERS,
    PORTS,
    SERVICES,
    Addresses,
    Invoicing,
    environment,
)
from scalelab.lab.preparation import prepare
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Kafka, Postgres, Redis, ServiceSpec

_FOR_INVOICES = ("celery", "fpdf", "aiosmtpd")


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack."""

    runtime: Runtime
    addresses: Addresses
    postgres: Postgres
    kafka: Kafka

    @property
    def links(self) -> list[tuple[str, str]]:
        """What a person may open."""
        at = self.addresses
        orders = [
            ("orders", at.url("orders") + "/docs"),
            ("order status, pushed", f"ws://127.0.0.1:{at.ports['orders-live']}{PATH}"),
            ("the worker's metrics", at.url("orders-worker") + "/metrics"),
            ("the partners' books", at.url("partners") + "/internal/v1/books"),
            ("the dead-letter desk", at.url("desk") + "/desk/sign-in"),
        ]
        if at.invoicing is None:
            missing = "left out: their packages come with ./lab experiment"
            return [*orders, ("invoices by mail", missing)]
        return [
            *orders,
            ("invoices", at.url("jobs") + "/internal/v1/invoices"),
            ("the mails that were sent", at.url("mail") + "/mails"),
        ]


def can_invoice() -> bool:
    """Whether the packages of the background jobs are here."""
    return all(find_spec(name) is not None for name in _FOR_INVOICES)


def start(runtime: Runtime) -> list[tuple[str, str]]:
    """`./lab up month3`."""
    chosen = {
        name: os.environ[name] for names in CHOICES.values() for name in names if name in os.environ
    }
    return start_stack(runtime, chosen=chosen).links


def start_stack(
    runtime: Runtime,
    *,
    products: int = 100,
    pieces: int = 1000,
    chosen: Mapping[str, str] | None = None,
) -> Stack:
    """Start everything and return when the orders' door answers.

    products, pieces: what is on the shelves of a new stack. chosen: values of `CHOICES`. Raises
    ServerMissing or ServerFailed with a sentence for a person.
    """
    invoices = can_invoice()
    defaults = {**PORTS, **LISTENERS, **(INVOICING_PORTS if invoices else {})}
    ports = {name: runtime.port(name, default) for name, default in defaults.items()}
    postgres = Postgres("postgres", port=ports["postgres"])
    kafka = Kafka("kafka", port=ports["kafka"])
    redis = Redis("redis", port=ports["redis"]) if invoices else None
    runtime.start(postgres, kafka, *([redis] if redis else []))
    databases = (*DATABASES, INVOICING_DATABASE) if invoices else DATABASES
    addresses = Addresses(
        ports=ports,
        hosts={},
        dsns={name: postgres.ensure_database(name, name) for name in databases},
        key_file=key_path(runtime.root),
        invoicing=Invoicing(redis.url, runtime.root / "mails") if redis else None,
    )
    if (chosen or {}).get("ORDERS_WORKER_RELAY") == "log":
        let_follow_log(postgres, "orders")
    _prepare_tables(runtime, addresses, products=products, pieces=pieces)
    runtime.services(*services_of(addresses, chosen or {}))
    return Stack(runtime, addresses, postgres, kafka)


def _prepare_tables(runtime: Runtime, at: Addresses, *, products: int, pieces: int) -> None:
    shelves = {
        "PARTNERS_SEED_PRODUCTS": str(products),
        "PARTNERS_SEED_PIECES": str(pieces),
    }
    steps = dict(JOBS)
    if at.invoicing:
        steps["jobs"] = ("month3_messaging.jobs", "prepare")
    for process, module in steps.items():
        prepare(runtime, f"{process}' tables", module, environment(process, at) | shelves)


def services_of(at: Addresses, chosen: Mapping[str, str]) -> list[ServiceSpec]:
    """Our own processes, with what was chosen for each."""
    every = {**SERVICES, **(INVOICING if at.invoicing else {})}
    return [
        ServiceSpec(
            name,
            ("python", "-m", *module),
            port=at.ports[name],
            env=environment(name, at)
            | {word: chosen[word] for word in CHOICES.get(name, ()) if word in chosen},
            restart=True,
            ready_within_s=120.0,  # eight processes start at once, perhaps on two busy cores
        )
        for name, module in every.items()
    ]


def let_follow_log(postgres: Postgres, role: str) -> None:
    """Let a role make a slot and follow it. Repeatable."""
    with psycopg.connect(postgres.superuser_dsn(), autocommit=True) as connection:
        statement = sql.SQL("ALTER ROLE {} REPLICATION").format(sql.Identifier(role))
        connection.execute(statement)


def key_path(root: Path) -> Path:
    """The issuer's signing key below a stack's folder; made by the issuer's first start."""
    return root / "secrets" / "issuer" / "es256.pem"
