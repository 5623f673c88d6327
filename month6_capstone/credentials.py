"""The shop's own secrets: made once, in files that only their owner reads.

The native stack and the `secrets` job of the container file both call `make_credentials`; only the
containers need `make_database_passwords`, because the native servers make their own.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from month6_capstone.identity import register_client, write_clients
from month6_capstone.topology import CLIENTS, DATABASES

_DATABASE_ROLES = ("postgres", "replicator", "orders", *DATABASES)


def make_credentials(folder: Path) -> None:
    """Client secrets, their digests for identity, and the key of the consistency tokens.

    Repeatable: what exists is kept. The digests are written last, so a crash half-way is repaired
    by the next call.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = {client: _once(folder / f"client-{client}") for client in CLIENTS}
    _once(folder / "consistency")
    (folder / "signing-keys").mkdir(exist_ok=True, mode=0o700)
    write_clients(
        folder / "clients.json",
        [register_client(client, secret, ["internal"]) for client, secret in held.items()],
    )


def make_database_passwords(folder: Path, hosts: Sequence[str]) -> None:
    """A password per database role, and the password file that the services' drivers read.

    The single files are readable by the folder's group, because the database containers run as
    another user of that group; the password file is the services' alone.
    """
    passwords = {role: _once(folder / f"pg-{role}", mode=0o640) for role in _DATABASE_ROLES}
    lines = [
        f"{host}:5432:*:{role}:{passwords[role]}" for host in hosts for role in _DATABASE_ROLES
    ]
    passfile = folder / "pgpass"
    _write(passfile, "\n".join(lines) + "\n", mode=0o600)


def _once(path: Path, *, mode: int = 0o600) -> str:
    """The secret in `path` (192 random bits, URL-safe), made if it is not there yet."""
    if not path.exists():
        _write(path, secrets.token_urlsafe(24), mode=mode)
    return path.read_text(encoding="ascii")


def _write(path: Path, text: str, *, mode: int) -> None:
    aside = path.with_name(f".{path.name}.new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
