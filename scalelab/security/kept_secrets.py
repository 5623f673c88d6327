"""Secrets of a stack that runs without the workbench: made once, written whole.

One process makes them (a job that ends before the services start), so there is no race to win; the
workbench, where several may ask at once, has its own in `scalelab.lab.servers.secret_files`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path


def secret_once(path: Path, *, mode: int = 0o600) -> str:
    """The secret in `path` (192 random bits, URL-safe), made if it is not there yet."""
    if not path.exists():
        write_whole(path, secrets.token_urlsafe(24), mode=mode)
    return path.read_text(encoding="ascii")


def database_passwords(folder: Path, *, hosts: Sequence[str], roles: Sequence[str]) -> None:
    """A password per role in `folder/pg-ROLE`, and the password file `folder/pgpass` for `hosts`.

    The single files may be read by the folder's group, because the database's container runs as
    another user of that group; the password file is its owner's alone.
    """
    words = {role: secret_once(folder / f"pg-{role}", mode=0o640) for role in roles}
    lines = [f"{host}:5432:*:{role}:{words[role]}" for host in hosts for role in roles]
    write_whole(folder / "pgpass", "\n".join(lines) + "\n", mode=0o600)


def write_whole(path: Path, text: str, *, mode: int) -> None:
    """Write `text` so that a reader, or a crash, finds the old file or the new one, never half."""
    aside = path.with_name(f".{path.name}.new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
