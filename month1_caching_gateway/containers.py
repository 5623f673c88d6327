"""First job of the container stack: passwords, the password file, and the gateway's routes.

    python -m month1_caching_gateway.containers        writes to SECRETS_DIR, once; repeatable

The native stack needs none of this: its servers make their own secrets (scalelab.lab.servers).
"""

from __future__ import annotations

import os
from pathlib import Path

from month1_caching_gateway.topology import PORTS, ROUTES_FILE, Addresses, routes_text
from scalelab.security.kept_secrets import database_passwords, write_whole

DATABASE_HOST = "postgres"
_ROLES = ("postgres", "replicator", "catalog")


def container_addresses(folder: Path) -> Addresses:
    """Where everything is between containers: each process's host is its service's name."""
    return Addresses(
        ports=PORTS,
        hosts={name: name for name in PORTS},
        database_dsn=f"postgresql://catalog@{DATABASE_HOST}/catalog?passfile={folder}/pgpass",
        redis_url="redis://redis:6379/0",
        key_file=folder / "issuer" / "es256.pem",
        routes_file=folder / "routes.yaml",
        bind_host="0.0.0.0",
    )


def make(folder: Path) -> None:
    """Write what is missing: passwords, and the gateway's routes with the containers' names."""
    database_passwords(folder, hosts=[DATABASE_HOST], roles=_ROLES)
    routes = routes_text(ROUTES_FILE.read_text(encoding="utf-8"), container_addresses(folder))
    write_whole(folder / "routes.yaml", routes, mode=0o600)


if __name__ == "__main__":
    make(Path(os.environ["SECRETS_DIR"]))
