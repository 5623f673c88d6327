"""Passwords of one stack: made once, kept in files that only their owner can read."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
from pathlib import Path

from scalelab.errors import InvalidInput

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")


class SecretFiles:
    """Secrets by name under one folder (mode 0700), a file each (mode 0600)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def path(self, name: str) -> Path:
        """The file of the secret `name`; it exists after `get`."""
        if not _NAME.fullmatch(name):
            raise InvalidInput(f"{name!r} is not a name for a secret", field="name")
        return self._folder / name

    def get(self, name: str) -> str:
        """The secret, made on first use: 32 URL-safe characters (192 random bits)."""
        path = self.path(name)
        with self._lock:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                return path.read_text(encoding="ascii")
            except FileNotFoundError:
                return self._make(path)

    def _make(self, path: Path) -> str:
        # Written aside and linked into place: whoever loses a race reads the winner's secret,
        # and a crash never leaves an empty file behind.
        aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(24))
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        finally:
            aside.unlink()
        return path.read_text(encoding="ascii")
