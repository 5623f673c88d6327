"""A Cassandra ring of three, one for all experiments of a run, and nodes taken out of it.

What a replica holds is seen by reading ONE through its node. How it catches up is a property of
the table: a hint lives no longer than a tombstone must, so where that is 0 s none is played back;
and reads repair what they find, unless the table says they do not.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

from month2_databases.consistency import Level, Ring, RingSettings, open_ring
from scalelab.errors import OutcomeUnknown, Unavailable
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import DATA_CENTRE, Cassandra, CassandraRing

UNHINTED = "gc_grace_seconds = 0"
UNREPAIRED = "read_repair = 'NONE'"
UNHEALED = f"{UNHINTED} AND {UNREPAIRED}"

_WITHIN_S = 60.0
_EVERY_REPLICA = "SELECT * FROM system_distributed.view_build_status LIMIT 1"


@dataclass(frozen=True, slots=True)
class RingBed:
    """A running ring, and the means to take nodes (1, 2, 3) out of it and bring them back."""

    runtime: Runtime
    servers: CassandraRing

    @classmethod
    def of(cls, runtime: Runtime) -> RingBed:
        """The ring that this runtime has, started if it has none yet."""
        if not any(status.name == "cassandra-1" for status in runtime.status()):
            ring = CassandraRing()
            runtime.start(*ring.nodes)
            return cls(runtime, ring)
        node = runtime.server("cassandra-1")
        if not isinstance(node, Cassandra):
            raise TypeError(f"{node.name} is no node of a ring")
        return cls(runtime, node.ring)

    @asynccontextmanager
    async def client(self, keyspace: str, *tables: str) -> AsyncGenerator[Ring]:
        """A client patient enough for a busy machine, in a keyspace that is made if missing."""
        # The driver tells of every node that it cannot reach, which here is what is wanted.
        logging.getLogger("cassandra").setLevel(logging.CRITICAL)
        replication = f"{{'class': 'NetworkTopologyStrategy', '{DATA_CENTRE}': 3}}"
        made = f"CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {replication}"
        async with open_ring(self.settings(None)) as ring:
            await ring.define(made)
        async with open_ring(self.settings(keyspace)) as ring:
            await ring.define(*tables)
            yield ring

    def settings(self, keyspace: str | None) -> RingSettings:
        """How a client reaches the ring."""
        return RingSettings(
            self.servers.addresses,
            self.servers.port,
            keyspace,
            timeout_s=30.0,
            connect_timeout_s=30.0,
        )

    async def stop(self, ring: Ring, *nodes: int) -> None:
        """Stop nodes, one after the other; returns when the first node knows that they are gone."""
        for node in nodes:
            await asyncio.to_thread(self.runtime.stop, self._name(node))
        await until(lambda: _refused(ring), what=f"node 1 knows that {nodes} are gone")

    async def bring_back(self, ring: Ring, *nodes: int) -> None:
        """Start nodes again, at once; returns when every node reaches every replica."""
        with ThreadPoolExecutor(len(nodes)) as pool:
            loop = asyncio.get_running_loop()
            starts = [
                loop.run_in_executor(pool, self.runtime.restart, self._name(node)) for node in nodes
            ]
            await asyncio.gather(*starts)
        await whole(ring)

    @asynccontextmanager
    async def without(self, ring: Ring, *nodes: int) -> AsyncGenerator[None]:
        """Run the block while `nodes` are away."""
        try:
            await self.stop(ring, *nodes)
            yield
        finally:
            await self.bring_back(ring, *nodes)

    def _name(self, node: int) -> str:
        return self.servers.nodes[node - 1].name


async def whole(ring: Ring) -> None:
    """Wait until every node answers, as coordinator, a read that needs every replica."""
    for node in ring.addresses:
        await until(lambda node=node: _answered(ring, node), what=f"{node} reaches all replicas")


async def until(claim: Callable[[], Awaitable[bool]], *, what: str) -> None:
    """Ask until the claim holds. Raises TimeoutError with `what` after a minute."""
    deadline_s = time.monotonic() + _WITHIN_S
    while not await claim():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not within {_WITHIN_S:.0f} s: {what}")
        await asyncio.sleep(0.1)


async def _answered(ring: Ring, node: str) -> bool:
    try:
        await ring.read(_EVERY_REPLICA, level=Level.ALL, via=node)
    except (Unavailable, OutcomeUnknown):
        return False
    return True


async def _refused(ring: Ring) -> bool:
    """Whether node 1 refuses a read of all replicas at once: it knows that some are gone."""
    try:
        await ring.read(_EVERY_REPLICA, level=Level.ALL, via=ring.addresses[0])
    except Unavailable as error:
        return error.stable_code == "too_few_replicas"
    return False
