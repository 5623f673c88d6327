"""First job of the container stack: passwords, the password file, the token's secret.

    python -m month2_databases.containers        writes to SECRETS_DIR, once; repeatable

The native stack needs none of this: its servers make their own secrets (scalelab.lab.servers).
"""

from __future__ import annotations

import os
from pathlib import Path

from month2_databases.topology import (
    DATABASE,
    MAP_DATABASE,
    MAP_KEEPER,
    MAP_ROLE,
    PORTS,
    REPLICAS,
    ROLE,
    Addresses,
)
from scalelab.security.kept_secrets import database_passwords, secret_once

SERVERS = (*REPLICAS, *(name for replicas in REPLICAS.values() for name in replicas))
"""Every database server of the stack; between containers its host is its name."""


def container_addresses(folder: Path) -> Addresses:
    """Where everything is between containers: each process's host is its service's name."""
    return Addresses(
        ports=PORTS,
        hosts={name: name for name in PORTS},
        dsns={
            name: f"postgresql://{ROLE}@{name}/{DATABASE}?passfile={folder}/pgpass"
            for name in SERVERS
        },
        map_dsn=(f"postgresql://{MAP_ROLE}@{MAP_KEEPER}/{MAP_DATABASE}?passfile={folder}/pgpass"),
        token_key_file=folder / "consistency-token",
        bind_host="0.0.0.0",
    )


def make(folder: Path) -> None:
    """Write what is missing."""
    database_passwords(folder, hosts=SERVERS, roles=("postgres", "replicator", ROLE, MAP_ROLE))
    secret_once(folder / "consistency-token")


if __name__ == "__main__":
    make(Path(os.environ["SECRETS_DIR"]))
