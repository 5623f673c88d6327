"""Secrets of a stack that runs without the workbench: made once, written whole.

One process makes them (a job that ends before the services start), so there is no race to win; the
workbench, where several may ask at once, has its own in `scalelab.lab.servers.secret_files`.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def secret_once(path: Path, *, mode: int = 0o600) -> str:
    """The secret in `path` (192 random bits, URL-safe), made if it is not there yet."""
    if not path.exists():
        write_whole(path, secrets.token_urlsafe(24), mode=mode)
    return path.read_text(encoding="ascii")


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
