"""One shard at run time: its primary behind a gate, its replicas and how far they have replayed."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Self

from opentelemetry.trace import Tracer
from psycopg import AsyncConnection

from month2_databases.replication import (
    ConsistencyToken,
    ReplayPositions,
    covers,
    has_replayed,
)
from month2_databases.sharding.primary_gate import PrimaryGate
from month2_databases.sharding.shard_map import ShardSettings
from scalelab.balancing import Backend, round_robin
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import Clock


@dataclass(frozen=True, slots=True)
class PoolSizes:
    """Connections per process: to each primary and to each replica.

    A replica is left for the primary after `replica_wait_s` without a connection.
    """

    primary_max: int = 8
    replica_max: int = 8
    primary_wait_s: float = 2.0
    replica_wait_s: float = 0.25


class Replica:
    """A replica that may be read."""

    def __init__(self, name: str, database: Database) -> None:
        self.name = name
        self._database = database

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """An autocommit connection to it."""
        return self._database.autocommit(read_only=True)


class Shard:
    """An async context manager that owns the pools and the position polling of one shard."""

    def __init__(
        self, settings: ShardSettings, *, pools: PoolSizes, clock: Clock, tracer: Tracer | None
    ) -> None:
        self.name = settings.name
        self.gate = PrimaryGate(settings.name, clock)
        to_primary = PostgresSettings(
            settings.primary, pool_max=pools.primary_max, acquire_timeout_s=pools.primary_wait_s
        )
        self.primary = Database(to_primary, name=settings.name, tracer=tracer)
        self._databases = [self.primary]
        self._replicas: list[Replica] = []
        for server in settings.replicas:
            to_replica = PostgresSettings(
                server.dsn, pool_max=pools.replica_max, acquire_timeout_s=pools.replica_wait_s
            )
            database = Database(to_replica, name=server.name, tracer=tracer)
            self._databases.append(database)
            self._replicas.append(Replica(server.name, database))
        self._positions = ReplayPositions(
            {server.name: server.dsn for server in settings.replicas}, clock=clock
        )
        self._turn = 0
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for database in self._databases:
                await stack.enter_async_context(database)
            await stack.enter_async_context(self._positions)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()

    def has_live_replica(self) -> bool:
        """Whether some replica answers, caught up or not."""
        return any(self._positions.position(replica.name) for replica in self._replicas)

    def candidates(self, wanted: ConsistencyToken | None) -> list[Replica]:
        """Replicas that may answer a read with this token, the one whose turn it is first."""
        able = [self._may_answer(replica.name, wanted) for replica in self._replicas]
        backends = [
            Backend(replica.name, available=fit)
            for replica, fit in zip(self._replicas, able, strict=True)
        ]
        first = round_robin(backends, self._turn)
        self._turn += 1
        if first is None:
            return []
        count = len(self._replicas)
        order = ((first + step) % count for step in range(count))
        return [self._replicas[index] for index in order if able[index]]

    async def confirms(self, conn: AsyncConnection, wanted: ConsistencyToken | None) -> bool:
        """Whether the replica behind `conn` itself says that it has replayed up to the token."""
        return wanted is None or await has_replayed(conn, wanted.lsn)

    def _may_answer(self, replica: str, wanted: ConsistencyToken | None) -> bool:
        position = self._positions.position(replica)
        if position is None:
            return False
        return wanted is None or covers(position, self.name, wanted)
