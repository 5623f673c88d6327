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

INVOICING_PORTS: Mapping[str, int] = {
    "jobs": 8306,
    "jobs-worker": 8307,
    "mail": 8308,
    "mail-smtp": 8309,
    "redis": 6385,
}
"""What the background jobs add to `PORTS` where their packages are here: see stack.py."""

INVOICING_DATABASE = "jobs"

SERVICES: Mapping[str, tuple[str, ...]] = {
    "issuer": ("scalelab.issuer",),
    "partners": ("month3_messaging.partners",),
    "orders": ("month3_messaging.ordering", "door"),
    "orders-worker": ("month3_messaging.ordering", "worker"),
    "desk": ("month3_messaging.deadletters",),
}
"""Our own processes and what `python -m` runs for each."""

INVOICING: Mapping[str, tuple[str, ...]] = {
    "mail": ("month3_messaging.jobs", "mail"),
    "jobs-worker": ("month3_messaging.jobs", "worker"),
    "jobs": ("month3_messaging.jobs", "intake"),
}
"""As `SERVICES`: the processes of the background jobs."""

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

INVOICES_READ = ("orders.order",)
"""As in `READERS`, of the jobs' group `invoices`."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "orders-worker": ("ORDERS_WORKER_RELAY", "ORDERS_WORKER_ON_FAILURE"),
    "desk": ("DESK_KEEP_S",),
}
"""Variables that `./lab up month3` hands on to a process as whoever starts the stack has set
them."""


@dataclass(frozen=True, slots=True)
class Invoicing:
    """What the background jobs need besides. broker_url: of Celery's broker, password included."""

    broker_url: str
    mail_folder: Path


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is. hosts, ports: by process name; ports: of listeners too. dsns: by
    database. key_file: the issuer's signing key. invoicing: None without background jobs."""

    ports: Mapping[str, int]
    hosts: Mapping[str, str]
    dsns: Mapping[str, str]
    key_file: Path
    bind_host: str = "127.0.0.1"
    log_level: str = "info"
    invoicing: Invoicing | None = None

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
    told = {f"{prefix}_{name}": value for name, value in own.items()}
    return told | _job_broker(at) if process in ("jobs", "jobs-worker") else told


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
    readers = {**READERS, **({"invoices": INVOICES_READ} if at.invoicing else {})}
    return {
        "DATABASE_DSN": at.dsns["desk"],
        "KAFKA_BOOTSTRAP": at.kafka_bootstrap,
        "SOURCES": json.dumps(readers, separators=(",", ":")),
        "JWKS_URL": at.url("issuer") + "/.well-known/jwks.json",
        "TOKEN_ISSUER": TOKEN_ISSUER,
        "TOKEN_AUDIENCE": TOKEN_AUDIENCE,
    }


def _mail(at: Addresses) -> dict[str, str]:
    assert at.invoicing
    return {"FOLDER": str(at.invoicing.mail_folder), "SMTP_PORT": str(at.ports["mail-smtp"])}


def _jobs(at: Addresses) -> dict[str, str]:
    return {
        "DATABASE_DSN": at.dsns[INVOICING_DATABASE],
        "KAFKA_BOOTSTRAP": at.kafka_bootstrap,
        "RESEND_AFTER_S": "60",
    }


def _jobs_worker(at: Addresses) -> dict[str, str]:
    return {
        "DATABASE_DSN": at.dsns[INVOICING_DATABASE],
        "MAIL_PORT": str(at.ports["mail-smtp"]),
        # A mail server that is away for a minute parks nothing.
        "MOST_ATTEMPTS": "20",
    }


def _job_broker(at: Addresses) -> dict[str, str]:
    """Short times: what a killed worker had taken is handed out again within half a minute."""
    assert at.invoicing
    return {
        "JOBS_BROKER_URL": at.invoicing.broker_url,
        "JOBS_BROKER_LONGEST_WAIT_S": "5",
        "JOBS_BROKER_JOB_LIMIT_S": "15",
        "JOBS_BROKER_VISIBILITY_TIMEOUT_S": "25",
    }


_SETTINGS = {
    "issuer": _issuer,
    "partners": _partners,
    "orders": _orders,
    "orders-worker": _worker,
    "desk": _desk,
    "mail": _mail,
    "jobs": _jobs,
    "jobs-worker": _jobs_worker,
}
