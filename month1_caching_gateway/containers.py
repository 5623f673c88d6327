"""First job of the container stack: passwords, the password file, and the gateway's routes.

    python -m month1_caching_gateway.containers        writes to SECRETS_DIR, once; repeatable

The native stack needs none of this: its servers make their own secrets (scalelab.lab.servers).
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from month1_caching_gateway.topology import PORTS, ROUTES_FILE, Addresses, routes_text

DATABASE_HOST, DATABASE_PORT = "postgres", 5432
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
    """Write what is missing. Single passwords may be read by the folder's group, because the
    database's container runs as another user of that group; the password file is ours alone."""
    passwords = {role: _once(folder / f"pg-{role}") for role in _ROLES}
    lines = [f"{DATABASE_HOST}:{DATABASE_PORT}:*:{role}:{passwords[role]}" for role in _ROLES]
    _write(folder / "pgpass", "\n".join(lines) + "\n", mode=0o600)
    routes = routes_text(ROUTES_FILE.read_text(encoding="utf-8"), container_addresses(folder))
    _write(folder / "routes.yaml", routes, mode=0o600)


def _once(path: Path) -> str:
    """The secret in `path` (192 random bits, URL-safe), made if it is not there yet."""
    if not path.exists():
        _write(path, secrets.token_urlsafe(24), mode=0o640)
    return path.read_text(encoding="ascii")


def _write(path: Path, text: str, *, mode: int) -> None:
    aside = path.with_name(f".{path.name}.new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


if __name__ == "__main__":
    make(Path(os.environ["SECRETS_DIR"]))
