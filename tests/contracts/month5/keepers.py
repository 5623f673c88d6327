"""A server, or several, that keep small agreed facts, as tests that break it want to have it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from scalelab.lab.runtime import Runtime

BUILT_WITHIN_S = 1500.0
"""Consul is built by whichever test asks for it first, which takes minutes."""
KINDS = [
    "store",
    "zookeeper",
    pytest.param("consul", marks=[pytest.mark.bed, pytest.mark.timeout(BUILT_WITHIN_S)]),
]


def nothing() -> None:
    """A server that is ready is settled."""


@dataclass(frozen=True, slots=True)
class Keeper:
    """address: as `open_registry` and `open_locks` take it. servers: their names.

    settled: returns once they answer as they did before somebody broke them. short_s: the shortest
    lease that a test which waits for its end may ask for.
    """

    kind: str
    address: str
    runtime: Runtime
    servers: tuple[str, ...]
    settled: Callable[[], None] = nothing
    short_s: float = 2.0

    def kill(self) -> None:
        """All of it at once. Whoever does this brings it back before the test ends."""
        for server in self.servers:
            self.runtime.kill(server)

    def restart(self) -> None:
        """All of it, with the data that it had."""
        for server in self.servers:
            self.runtime.restart(server)
        self.settled()
