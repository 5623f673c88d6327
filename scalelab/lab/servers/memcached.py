"""Memcached: one process, memory only, nothing on disk and nothing after a restart.

It knows no password over its text protocol: it listens on 127.0.0.1, and so must every real one.
No wheel carries it; without the Debian package `ServerMissing` says so.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Sequence
from typing import ClassVar

from scalelab.lab.servers.base import Server
from scalelab.lab.servers.errors import NotReady
from scalelab.lab.servers.processes import Launch
from scalelab.lab.servers.providers import Recipe

RECIPE = Recipe(
    server="memcached",
    program="memcached",
    minimum=(1, 5),
    version_flag="-V",
    version=r"memcached (\d+(?:\.\d+)+)",
    places=("/usr/bin/memcached", "/opt/homebrew/bin/memcached"),
    packages=("memcached",),
    units=("memcached.service",),
)


class Memcached(Server):
    """A Memcached server. memory_mb: for items, >= 1; then it evicts. options: more of its flags.

    threads: 2 by default, as a test machine has few cores.
    """

    default_port = 11211
    death_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(
        self,
        name: str = "memcached",
        port: int | None = None,
        *,
        memory_mb: int = 64,
        threads: int = 2,
        options: Sequence[str] = (),
    ) -> None:
        super().__init__(name, port)
        self._options = ("-m", str(memory_mb), "-t", str(threads), *options)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return "127.0.0.1", self.port

    def prepare(self) -> Launch:
        program = self.place.providers.obtain(RECIPE)
        self.version = program.version
        where = ("-l", "127.0.0.1", "-p", str(self.port), "-U", "0")
        return self.launch([str(program.path), *where, *self._options])

    def probe(self) -> None:
        try:
            with socket.create_connection(self.address, timeout=1.0) as connection:
                connection.sendall(b"version\r\n")
                answer = connection.recv(512)
        except OSError as error:
            raise NotReady(str(error)) from error
        if not answer.startswith(b"VERSION "):
            raise NotReady(answer.decode(errors="replace").strip())
