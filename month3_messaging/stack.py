"""The month on real local servers: orders, their worker and their partners around Kafka.

    with Runtime(folder, private=True) as runtime:
        stack = start_stack(runtime)

Order: PostgreSQL and Kafka side by side, the tables, then our own processes. A second start finds
its data and its key and changes neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from month3_messaging.status import PATH
from month3_messaging.topology import (
    DATABASES,
    JOBS,
    LISTENERS,
    PORTS,
    SERVICES,
    Addresses,
    environment,
)
from scalelab.lab.preparation import prepare
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Kafka, Postgres, ServiceSpec


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
        return [
            ("orders", at.url("orders") + "/docs"),
            ("order status, pushed", f"ws://127.0.0.1:{at.ports['orders-live']}{PATH}"),
            ("the worker's metrics", at.url("orders-worker") + "/metrics"),
            ("the partners' books", at.url("partners") + "/internal/v1/books"),
            ("the dead-letter desk", at.url("desk") + "/desk/sign-in"),
        ]


def start(runtime: Runtime) -> list[tuple[str, str]]:
    """`./lab up month3`."""
    return start_stack(runtime).links


def start_stack(runtime: Runtime, *, products: int = 100, pieces: int = 1000) -> Stack:
    """Start everything and return when the orders' door answers.

    products, pieces: what is on the shelves of a new stack. Raises ServerMissing or ServerFailed
    with a sentence for a person.
    """
    defaults = {**PORTS, **LISTENERS}
    ports = {name: runtime.port(name, default) for name, default in defaults.items()}
    postgres = Postgres("postgres", port=ports["postgres"])
    kafka = Kafka("kafka", port=ports["kafka"])
    runtime.start(postgres, kafka)
    addresses = Addresses(
        ports=ports,
        hosts={},
        dsns={name: postgres.ensure_database(name, name) for name in DATABASES},
        key_file=key_path(runtime.root),
    )
    shelves = {
        "PARTNERS_SEED_PRODUCTS": str(products),
        "PARTNERS_SEED_PIECES": str(pieces),
    }
    for process, module in JOBS.items():
        prepare(runtime, f"{process}' tables", module, environment(process, addresses) | shelves)
    runtime.services(*_services(addresses))
    return Stack(runtime, addresses, postgres, kafka)


def _services(addresses: Addresses) -> list[ServiceSpec]:
    return [
        ServiceSpec(
            name,
            ("python", "-m", *module),
            port=addresses.ports[name],
            env=environment(name, addresses),
            restart=True,
        )
        for name, module in SERVICES.items()
    ]


def key_path(root: Path) -> Path:
    """The issuer's signing key below a stack's folder; made by the issuer's first start."""
    return root / "secrets" / "issuer" / "es256.pem"
