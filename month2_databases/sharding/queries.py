"""A sharded database: every query says its shard key, or says that it means all shards.

The key goes through the placement to one server and the statement takes the fast path there
(shard_pool). Nothing else is read, so a dead shard takes only its own keys with it. A query
without a key is refused: by accident it would be the slowest query of the system.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final, Self

from psycopg import AsyncConnection

from month2_databases.sharding.gather import Gathered, Partial, gather
from month2_databases.sharding.merge import Merge, Ordered, concatenated
from month2_databases.sharding.placement import Placement
from month2_databases.sharding.shard_pool import FastSettings, Row, ShardPool, Statement
from month2_databases.sharding.stream import streamed
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import Clock, SystemClock
from scalelab.errors import Conflict, InvalidInput


class _Missing:
    """The default of `key`, so that NULL is told from nothing."""


_MISSING: Final = _Missing()


class ShardedDatabase:
    """Routes statements by shard key; an async context manager that owns all connections.

    servers: a DSN for every shard of the placement. Entering opens no connection and does not fail
    when servers are away.
    """

    def __init__(
        self,
        placement: Placement,
        servers: Mapping[str, str],
        *,
        settings: FastSettings | None = None,
        clock: Clock | None = None,
    ) -> None:
        fast = settings or FastSettings()
        self._pools = {
            name: ShardPool(dsn, name=name, settings=fast, clock=clock or SystemClock())
            for name, dsn in servers.items()
        }
        self._databases = {
            name: Database(_for_transactions(dsn, fast), name=name) for name, dsn in servers.items()
        }
        self._placement = self._served(placement)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for owned in (*self._pools.values(), *self._databases.values()):
                await stack.enter_async_context(owned)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()

    @property
    def placement(self) -> Placement:
        """The placement in use."""
        return self._placement

    @property
    def databases(self) -> Mapping[str, Database]:
        """The servers by shard, for transactions and for work that goes over all of them."""
        return self._databases

    def use(self, placement: Placement) -> None:
        """Route by a newer placement from the next call on.

        Raises Conflict code `shard_map_stale` if its version is not higher, InvalidInput code
        `shard_unknown` if it names a shard without a server; then the old one stays.
        """
        if placement.version <= self._placement.version:
            raise Conflict(
                f"placement {placement.version} is not newer than {self._placement.version}",
                code="shard_map_stale",
            )
        self._placement = self._served(placement)

    async def fetch(
        self,
        statement: Statement,
        params: Sequence[object] = (),
        *,
        key: object = _MISSING,
        timeout_s: float | None = None,
    ) -> list[Row]:
        """The rows of a reading statement on the shard of `key`.

        Raises InvalidInput code `shard_key_missing`, `shard_key_null` or `shard_key_type`, and what
        ShardPool raises.
        """
        pool = self._pools[self._shard_of(key)]
        return await pool.fetch(statement, params, timeout_s=timeout_s)

    async def execute(
        self,
        statement: Statement,
        params: Sequence[object] = (),
        *,
        key: object = _MISSING,
        timeout_s: float | None = None,
    ) -> tuple[int, list[Row]]:
        """Change something on the shard of `key`, alone in its transaction; count and RETURNING."""
        pool = self._pools[self._shard_of(key)]
        return await pool.execute(statement, params, timeout_s=timeout_s)

    def transaction(
        self, *, key: object = _MISSING
    ) -> AbstractAsyncContextManager[AsyncConnection]:
        """BEGIN, the block, COMMIT on the shard of `key`; see Database.transaction."""
        return self._databases[self._shard_of(key)].transaction()

    async def scatter(
        self,
        statement: Statement,
        params: Sequence[object] = (),
        *,
        merge: Merge = concatenated,
        deadline_s: float = 2.0,
        partial: Partial = Partial.REFUSE,
        shards: Sequence[str] | None = None,
    ) -> Gathered:
        """Ask all shards (or those named) at once and merge; see gather."""
        return await gather(
            {name: self._pools[name] for name in self._named(shards)},
            statement,
            params,
            merge=merge,
            deadline_s=deadline_s,
            partial=partial,
        )

    def stream(
        self,
        statement: Statement,
        params: Sequence[object] = (),
        *,
        order: Ordered,
        batch: int = 500,
        timeout_s: float = 60.0,
        shards: Sequence[str] | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[Row]]:
        """All shards' rows in one order, in bounded memory; see stream."""
        databases = {name: self._databases[name] for name in self._named(shards)}
        return streamed(databases, statement, params, order=order, batch=batch, timeout_s=timeout_s)

    def _shard_of(self, key: object) -> str:
        if key is _MISSING:
            raise InvalidInput(
                "the query names no shard key; pass key=…, or call scatter() if all shards are "
                "meant",
                field="key",
                code="shard_key_missing",
            )
        return self._placement.shard_of(key)

    def _named(self, shards: Sequence[str] | None) -> tuple[str, ...]:
        names = self._placement.shards if shards is None else tuple(shards)
        _known(names, self._pools)
        return names

    def _served(self, placement: Placement) -> Placement:
        _known(placement.shards, self._pools)
        return placement


def _for_transactions(dsn: str, fast: FastSettings) -> PostgresSettings:
    return PostgresSettings(
        dsn,
        pool_min=0,
        pool_max=fast.size,
        acquire_timeout_s=fast.timeout_s,
        connect_timeout_s=fast.connect_timeout_s,
    )


def _known(names: Sequence[str], pools: Mapping[str, ShardPool]) -> None:
    unknown = sorted(set(names) - pools.keys())
    if unknown:
        raise InvalidInput(f"no server for {unknown}", field="shards", code="shard_unknown")
