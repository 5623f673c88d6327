"""Session router: reads go to replicas where nobody can tell, writes to the primary.

Guarantees, for reads of a session that declares them
    G1  READ_YOUR_WRITES: no read misses a commit of this session, or of a header it absorbed and
        signed for one. It fails rather than being stale.
    G2  MONOTONIC_READS: no read is older than an earlier one of this session.
    G3  CAUSAL: both, and nothing is older than what came along with a message.
    G4  A bound on staleness holds by this process's own clock, whatever the servers' clocks say.
    G5  A header that is forged, malformed or of another cluster means the primary, never an error.
    G6  Writes go to the primary and nowhere else; a read session cannot write.

Absent on purpose: one snapshot over several replicas. Two of them may show two writers' commits
in different orders to two readers who do not talk to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from opentelemetry.trace import Tracer

from month2_databases.replication.cluster import Cluster, ClusterSettings
from month2_databases.replication.consistency_token import ConsistencyToken, sign
from month2_databases.replication.pool_budget import PoolSizes
from month2_databases.replication.routing_events import ReadHook, ReadRouted
from month2_databases.replication.sessions import ClientSession
from scalelab.clock import Clock
from scalelab.errors import InvalidInput


class SessionRouter:
    """Sessions on one cluster; an async context manager that owns all pools and polling.

    token_keys: secrets of 16 bytes or more; the first signs, all verify. read_timeout_s: of a
    block that reads. poll_s: between looks at each server. Entering does not fail when servers
    are away.
    """

    def __init__(
        self,
        settings: ClusterSettings,
        *,
        token_keys: Sequence[bytes],
        clock: Clock,
        pools: PoolSizes | None = None,
        read_timeout_s: float = 5.0,
        poll_s: float = 0.05,
        tracer: Tracer | None = None,
        hooks: Sequence[ReadHook] = (),
    ) -> None:
        if not token_keys:
            raise InvalidInput("a key is needed to sign tokens", field="token_keys")
        for key in token_keys:
            sign(ConsistencyToken(settings.name, 1, 0), key)  # a bad name or key fails here
        self._keys = tuple(token_keys)
        self._hooks = tuple(hooks)
        self._read_timeout_s = read_timeout_s
        self.cluster = Cluster(
            settings, clock=clock, pools=pools or PoolSizes(), tracer=tracer, poll_s=poll_s
        )

    async def __aenter__(self) -> Self:
        await self.cluster.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.cluster.__aexit__(*exc)

    def session(self, header: str = "") -> ClientSession:
        """A client's session. header: what it brought back from its own earlier answers."""
        client = ClientSession(
            self.cluster,
            self._keys,
            self._tell if self._hooks else None,
            read_timeout_s=self._read_timeout_s,
        )
        if header:
            client.absorb(header, is_own=True)
        return client

    def _tell(self, event: ReadRouted) -> None:
        for hook in self._hooks:
            hook(event)
