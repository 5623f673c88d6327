"""First job of the container stack: passwords and the password file.

    python -m month3_messaging.containers        writes to SECRETS_DIR, once; repeatable

The native stack needs none of this: its servers make their own secrets (scalelab.lab.servers).
"""

from __future__ import annotations

import os
from pathlib import Path

from month3_messaging.topology import DATABASES, LISTENERS, PORTS, Addresses
from scalelab.security.kept_secrets import database_passwords

DATABASE_HOST = "postgres"
KAFKA_PORT = 9092
"""What the broker's image listens on between containers."""


def container_addresses(folder: Path) -> Addresses:
    """Where everything is between containers: each process's host is its service's name."""
    return Addresses(
        ports={**PORTS, **LISTENERS, "kafka": KAFKA_PORT},
        hosts={name: name for name in PORTS},
        dsns={
            name: f"postgresql://{name}@{DATABASE_HOST}/{name}?passfile={folder}/pgpass"
            for name in DATABASES
        },
        key_file=folder / "issuer" / "es256.pem",
        bind_host="0.0.0.0",
    )


def make(folder: Path) -> None:
    """Write what is missing."""
    database_passwords(folder, hosts=[DATABASE_HOST], roles=("postgres", "replicator", *DATABASES))


if __name__ == "__main__":
    make(Path(os.environ["SECRETS_DIR"]))
