"""The order book as an app: router, orders, routes, and their lifetimes.

When a shard's primary is gone, only its own users are told so (503 with Retry-After); the service
stays ready, because all others are served.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI

from month2_databases.orderbook.orders import OrderBook
from month2_databases.orderbook.routes import orderbook_router
from month2_databases.sharding import (
    MapStore,
    MapWatch,
    PoolSizes,
    RouterMetrics,
    ShardRouter,
    ShardSettings,
)
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import Clock, SystemClock
from scalelab.telemetry import Telemetry
from scalelab.web import create_app


@dataclass(frozen=True, slots=True)
class OrderBookConfig:
    """map_dsn: of the database that keeps the map. token_keys: the first signs, all verify."""

    shards: Sequence[ShardSettings]
    map_dsn: str
    token_keys: Sequence[bytes]
    pools: PoolSizes | None = None


def create_orderbook_app(
    config: OrderBookConfig, *, telemetry: Telemetry, clock: Clock | None = None
) -> FastAPI:
    """The order book over prepared shards. Connections open with the lifespan, and close.

    The map is read once at the start and followed from then on; the last one heard serves while
    its database is away.
    """
    clock = clock or SystemClock()
    keeper = Database(PostgresSettings(config.map_dsn, pool_max=2), name="shard-map")
    maps = MapWatch(MapStore(keeper), clock=clock)
    router = ShardRouter(
        config.shards,
        token_keys=config.token_keys,
        clock=clock,
        pools=config.pools,
        maps=maps,
        hooks=[RouterMetrics(telemetry.registry)],
    )
    book = OrderBook(router, clock)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with keeper, maps, router:
            yield

    return create_app(
        telemetry=telemetry,
        title="Order book",
        routers=[orderbook_router(book, router)],
        lifespan=lifespan,
        clock=clock,
    )
