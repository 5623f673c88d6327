"""Pool budget: do the pools of all processes fit into a server? Pure.

Theory of operation
    Every process opens up to its pools' sizes, whatever the others do; the server refuses what is
    over `max_connections`, and each connection is a process of its own there. So the sum is
    checked before anything starts, with room for what pools do not know: superusers, replicas,
    pollers, migrations, a person with psql.

    How many connections a process needs: those in use = arrivals per second x seconds a
    connection is held (Little's law). 400 reads/s that hold one for 2 ms use 0.8 on average; a
    pool of 4 has room for a burst of five times that. More connections than cores + disks
    make a server slower, not faster.

Source: Little 1961, "A proof for the queuing formula L = lambda W".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scalelab.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class PoolSizes:
    """Connections of one process: writing and reading on the primary, reading on each replica.

    wait_s: for a free one on the primary. replica_wait_s: then the read goes to the primary.
    """

    primary_write: int = 4
    primary_read: int = 4
    replica: int = 4
    wait_s: float = 2.0
    replica_wait_s: float = 0.25


@dataclass(frozen=True, slots=True)
class Budget:
    """Connections on a server that all processes may open together, and how many it has left."""

    needed: int
    available: int

    @property
    def left(self) -> int:
        """What is free when every pool is full."""
        return self.available - self.needed


def primary_budget(
    pools: PoolSizes, *, processes: int, max_connections: int, reserved: int = 10
) -> Budget:
    """What `processes` ask of the primary. reserved: superusers, walsenders' pollers, people."""
    each = pools.primary_write + pools.primary_read + 1  # one that asks where the log ends
    return Budget(processes * each, max_connections - reserved)


def replica_budget(
    pools: PoolSizes, *, processes: int, max_connections: int, reserved: int = 10
) -> Budget:
    """What `processes` ask of each replica."""
    return Budget(processes * (pools.replica + 1), max_connections - reserved)


def check(budget: Budget, *, server: str) -> Budget:
    """The budget if it fits; else InvalidInput code `pools_too_large` that says by how much."""
    if budget.left < 0:
        raise InvalidInput(
            f"the pools ask {server} for {budget.needed} connections and it has "
            f"{budget.available}: make them smaller, run fewer processes, or put a pooler between",
            field="pools",
            code="pools_too_large",
        )
    return budget


def connections_in_use(arrivals_per_s: float, held_s: float) -> int:
    """Connections busy on average, rounded up: L = lambda x W."""
    return math.ceil(arrivals_per_s * held_s)
