"""One replicated cluster at run time: pools, positions, and the choice for each read."""

from __future__ import annotations

import math
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Self

from opentelemetry.trace import Tracer
from psycopg import AsyncConnection

from month2_databases.replication.causal_past import Past
from month2_databases.replication.consistency_token import ConsistencyToken
from month2_databases.replication.pool_budget import PoolSizes
from month2_databases.replication.primary_log import PrimaryLog
from month2_databases.replication.read_policy import Choice, ReadPolicy, ReplicaView, choose
from month2_databases.replication.replay_positions import ReplayPositions
from month2_databases.replication.same_server import SameServer
from scalelab.clients.postgres import CommitPosition, Database, PostgresSettings
from scalelab.clock import Clock
from scalelab.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """A replica. pooler_dsn: read through a pooler in transaction mode; positions are polled from
    `dsn`, the server itself."""

    name: str
    dsn: str
    pooler_dsn: str | None = None


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """A primary and its replicas. name: of the cluster, in tokens: [a-z0-9-], 1 to 40."""

    name: str
    primary: str
    replicas: tuple[ReplicaSettings, ...] = ()


class ReadServer:
    """A server that reads, on connections where it refuses writes."""

    def __init__(self, name: str, database: Database, *, through_pooler: bool = False) -> None:
        self.name = name
        self.database = database
        self._through_pooler = through_pooler

    def reading(self, timeout_s: float) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection for reading. Behind a pooler it is one transaction, so that what is asked
        of the server and what is read from it come from the same one."""
        if self._through_pooler:
            return self.database.transaction(read_only=True, timeout_s=timeout_s)
        return self.database.autocommit(read_only=True, timeout_s=timeout_s)


class Cluster:
    """An async context manager that owns the pools and the polling of one cluster.

    Entering does not fail when servers are away.
    """

    def __init__(
        self,
        settings: ClusterSettings,
        *,
        clock: Clock,
        pools: PoolSizes,
        tracer: Tracer | None = None,
        poll_s: float = 0.05,
    ) -> None:
        names = [settings.name, *(replica.name for replica in settings.replicas)]
        if len(set(names)) != len(names):
            raise InvalidInput(
                "the cluster and its replicas have names, each its own", field="name"
            )
        self.name = settings.name
        self.pools = pools
        self._tracer = tracer
        to_write = PostgresSettings(
            settings.primary, pool_max=pools.primary_write, acquire_timeout_s=pools.wait_s
        )
        self.primary = Database(to_write, name=settings.name, tracer=tracer)
        self.primary_reader = self._reader(
            settings.name, settings.primary, pools.primary_read, pools.wait_s
        )
        self.replicas = [
            self._reader(
                replica.name,
                replica.pooler_dsn or replica.dsn,
                pools.replica,
                pools.replica_wait_s,
                through_pooler=replica.pooler_dsn is not None,
            )
            for replica in settings.replicas
        ]
        self._positions = ReplayPositions(
            {replica.name: replica.dsn for replica in settings.replicas},
            clock=clock,
            interval_s=poll_s,
        )
        self._log = PrimaryLog(settings.name, settings.primary, clock=clock, interval_s=poll_s)
        self._names = [replica.name for replica in settings.replicas]
        self._pooled = {replica.name for replica in settings.replicas if replica.pooler_dsn}
        self._same_server = SameServer(clock)
        self._turn = 0
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.primary)
            for server in (self.primary_reader, *self.replicas):
                await stack.enter_async_context(server.database)
            await stack.enter_async_context(self._positions)
            await stack.enter_async_context(self._log)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()

    def views(self) -> list[ReplicaView]:
        """The replicas as last seen, in the order of the settings."""
        return [self._view(name) for name in self._names]

    def lag_bytes(self, replica: str) -> int | None:
        """Bytes of log the replica lacks; None where it or the primary does not answer."""
        position = self._positions.position(replica)
        return None if position is None else self._log.lag_bytes(position)

    def choose(self, policy: ReadPolicy, past: Past) -> Choice:
        """Who may answer now; each call takes the next turn."""
        self._turn += 1
        if policy.max_staleness_s != math.inf:
            views = self.views()
        else:  # nobody asks for their age
            position = self._positions.position
            views = [ReplicaView(name, position(name)) for name in self._names]
        return choose(policy, past, views, cluster=self.name, turn=self._turn)

    def believes(self, conn: AsyncConnection, replica: str, floor: ConsistencyToken) -> bool | None:
        """Whether the server behind `conn` has replayed `floor`; None if it has to be asked."""
        if replica in self._pooled:
            return None
        polled = self._positions.standing(replica)
        return self._same_server.believes(conn, self.name, floor, polled)

    async def confirms(self, conn: AsyncConnection, floor: ConsistencyToken) -> bool:
        """The same by asking the server behind `conn`, which is one round trip."""
        return await self._same_server.confirms(conn, self.name, floor)

    def token_of(self, position: CommitPosition) -> ConsistencyToken | None:
        """The token of a commit, if the server said where it stands."""
        if position.lsn is None or position.timeline is None:
            return None
        return ConsistencyToken(self.name, position.timeline, position.lsn)

    def _view(self, name: str) -> ReplicaView:
        position = self._positions.position(name)
        if position is None:
            return ReplicaView(name, None)
        return ReplicaView(name, position, self._log.stale_s(position))

    def _reader(
        self, name: str, dsn: str, size: int, wait_s: float, *, through_pooler: bool = False
    ) -> ReadServer:
        settings = PostgresSettings(
            dsn,
            pool_max=size,
            acquire_timeout_s=wait_s,
            is_read_only=True,
            through_pooler=through_pooler,
        )
        database = Database(settings, name=name, tracer=self._tracer)
        return ReadServer(name, database, through_pooler=through_pooler)
