"""The shop's own secrets: made once, in files that only their owner reads.

The native stack and the `secrets` job of the container file both call `make_credentials`; only the
containers need `make_database_passwords`, because the native servers make their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from month6_capstone.identity import register_client, write_clients
from month6_capstone.topology import CLIENTS, DATABASES
from scalelab.security.kept_secrets import database_passwords, secret_once

_DATABASE_ROLES = ("postgres", "replicator", "orders", *DATABASES)


def make_credentials(folder: Path) -> None:
    """Client secrets, their digests for identity, and the key of the consistency tokens.

    Repeatable: what exists is kept. The digests are written last, so a crash half-way is repaired
    by the next call.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = {client: secret_once(folder / f"client-{client}") for client in CLIENTS}
    secret_once(folder / "consistency")
    (folder / "signing-keys").mkdir(exist_ok=True, mode=0o700)
    write_clients(
        folder / "clients.json",
        [register_client(client, secret, ["internal"]) for client, secret in held.items()],
    )


def make_database_passwords(folder: Path, hosts: Sequence[str]) -> None:
    """A password per database role, and the password file that the services' drivers read."""
    database_passwords(folder, hosts=hosts, roles=_DATABASE_ROLES)
