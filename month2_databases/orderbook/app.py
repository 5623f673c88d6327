"""The order book as an app: router, orders, routes, and their lifetimes.

When a shard's primary is gone, only its own users are told so (503 with Retry-After); the service
stays ready, because all others are served.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from month2_databases.orderbook.orders import OrderBook
from month2_databases.orderbook.routes import orderbook_router
from month2_databases.sharding import PoolSizes, RouterMetrics, ShardMap, ShardRouter, ShardSettings
from scalelab.clients import migrations
from scalelab.clock import Clock, SystemClock
from scalelab.telemetry import Telemetry
from scalelab.web import create_app


@dataclass(frozen=True, slots=True)
class OrderBookConfig:
    """shard_map: None splits the slots evenly. token_keys: the first signs, all verify."""

    shards: Sequence[ShardSettings]
    token_keys: Sequence[bytes]
    pools: PoolSizes | None = None
    shard_map: ShardMap | None = None


def create_orderbook_app(
    config: OrderBookConfig, *, telemetry: Telemetry, clock: Clock | None = None
) -> FastAPI:
    """The order book over migrated shards. Connections open with the lifespan, and close."""
    clock = clock or SystemClock()
    router = ShardRouter(
        config.shards,
        token_keys=config.token_keys,
        clock=clock,
        pools=config.pools,
        shard_map=config.shard_map,
        hooks=[RouterMetrics(telemetry.registry)],
    )
    book = OrderBook(router, clock)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with router:
            yield

    return create_app(
        telemetry=telemetry,
        title="Order book",
        routers=[orderbook_router(book, router)],
        lifespan=lifespan,
        clock=clock,
    )


def migrate(dsn: str) -> None:
    """Bring one shard's schema up to date. Blocking; safe to run in several processes."""
    migrations.upgrade(dsn, Path(__file__).with_name("migrations"))
