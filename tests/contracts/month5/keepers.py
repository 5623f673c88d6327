"""A server, or several, that keep small agreed facts, as tests that break it want to have it."""

from __future__ import annotations

from dataclasses import dataclass

from scalelab.lab.runtime import Runtime

KINDS = ["store", "zookeeper"]


@dataclass(frozen=True, slots=True)
class Keeper:
    """address: as `open_registry` and `open_locks` take it. servers: their names."""

    kind: str
    address: str
    runtime: Runtime
    servers: tuple[str, ...]

    def kill(self) -> None:
        """All of it at once. Whoever does this brings it back before the test ends."""
        for server in self.servers:
            self.runtime.kill(server)

    def restart(self) -> None:
        """All of it, with the data that it had."""
        for server in self.servers:
            self.runtime.restart(server)
