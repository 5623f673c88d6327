"""The orders process: the API and the status stream, on sharded databases. Wiring only.

Failure policies: a dead shard takes only its own users with it (503, Retry-After), so the process
is ready while any shard answers. The map's server away: the last map serves on, and what moved
meanwhile is put off (503). Catalog or inventory away: nothing is placed (503), all reads
go on. Kafka away: nothing is noticed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from month2_databases.sharding import PoolSizes, RouterMetrics, ShardRouter, parse_shards
from month3_messaging.orders import (
    CatalogPrices,
    InventoryHolds,
    OrdersApi,
    Placement,
    order_saga,
    orders_router,
)
from month3_messaging.status import HubSettings, StatusApi, StatusHub, status_router
from month6_capstone.orders.shards import map_watch, prepare, read_token_keys, sessions_of
from scalelab.clients.http import HttpClient
from scalelab.clients.postgres import Database
from scalelab.clock import SystemClock
from scalelab.errors import ScalelabError, Unavailable
from scalelab.resilience import BreakerPolicy, Guard, GuardMetrics, Hook, RetryPolicy
from scalelab.security import HttpJwks, ServiceTokens, TokenVerifier, http_fetch
from scalelab.telemetry import Telemetry
from scalelab.web import create_app


class OrdersSettings(BaseSettings):
    """Environment of the orders process.

    shards: JSON, see `parse_shards`. map_dsn: of the database that keeps the shard map. pool_max:
    connections per server. hold_ttl_s: how long stock is held for an order that is not paid yet.
    payment_time_limit_s: after which a pending order is cancelled; the worker must be told the
    same. peer_timeout_s: one attempt at catalog or inventory, generous because a slow peer on a
    starved machine is not a dead one; peer_deadline_s: all attempts together, within the 5 s that
    a client of the shop waits.
    """

    model_config = SettingsConfigDict(env_prefix="ORDERS_", frozen=True)

    host: str = "127.0.0.1"
    port: int = 8083
    shards: str
    map_dsn: str
    consistency_secret_file: Path
    catalog_url: str
    inventory_url: str
    jwks_url: str
    token_issuer: str
    token_audience: str
    token_url: str
    client_id: str
    client_secret_file: Path
    pool_max: Annotated[int, Field(ge=2)] = 10
    hold_ttl_s: Annotated[float, Field(gt=0)] = 120.0
    payment_time_limit_s: Annotated[float, Field(gt=0)] = 600.0
    peer_timeout_s: Annotated[float, Field(gt=0)] = 2.0
    peer_deadline_s: Annotated[float, Field(gt=0)] = 4.5
    streams_per_user: Annotated[int, Field(ge=1)] = 8
    streams_max: Annotated[int, Field(ge=1)] = 2000
    heartbeat_s: Annotated[float, Field(gt=0)] = 15.0
    trace_export: str = "none"
    log_level: str = "info"


def migrate(settings: OrdersSettings) -> None:
    """Tables on every shard, and the map of their slots; repeatable. Blocking, starts a loop of its
    own. Raises Unavailable."""
    prepare(parse_shards(settings.shards), settings.map_dsn)


def create(settings: OrdersSettings, telemetry: Telemetry) -> FastAPI:
    """The orders application. Reads its secrets now: OSError or CorruptData names the file."""
    clock = SystemClock()
    keeper, maps = map_watch(settings.map_dsn, clock)
    router = ShardRouter(
        parse_shards(settings.shards),
        token_keys=read_token_keys(settings.consistency_secret_file),
        clock=clock,
        tracer=telemetry.tracer,
        pools=PoolSizes(primary_max=settings.pool_max, replica_max=settings.pool_max),
        maps=maps,
        hooks=[RouterMetrics(telemetry.registry)],
    )
    tokens = ServiceTokens(
        settings.token_url,
        settings.client_id,
        settings.client_secret_file.read_text().strip(),
        "internal",
        clock,
    )
    guard_metrics = GuardMetrics(telemetry.registry)
    catalog = _peer("catalog", settings.catalog_url, settings, tokens, guard_metrics)
    inventory = _peer("inventory", settings.inventory_url, settings, tokens, guard_metrics)
    sessions = sessions_of(router)
    verifier = TokenVerifier(
        HttpJwks(settings.jwks_url, http_fetch, clock=clock),
        settings.token_issuer,
        settings.token_audience,
        clock,
    )
    placement = Placement(
        definition=order_saga(settings.payment_time_limit_s),
        sessions=sessions,
        prices=CatalogPrices(catalog),
        holds=InventoryHolds(inventory, ttl_s=settings.hold_ttl_s),
        clock=clock,
    )
    hub = StatusHub(
        list(router.primaries.values()),
        log=telemetry.log,
        settings=HubSettings(per_user=settings.streams_per_user, watchers=settings.streams_max),
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        async with keeper, maps, router, catalog, inventory, hub:
            yield

    return create_app(
        telemetry=telemetry,
        routers=[
            orders_router(OrdersApi(placement, sessions, verifier)),
            status_router(StatusApi(hub, sessions, verifier, settings.heartbeat_s)),
        ],
        lifespan=lifespan,
        readiness={"a_shard": lambda: any_answers(router.primaries)},
        title="Orders",
    )


async def any_answers(primaries: Mapping[str, Database]) -> None:
    """Return as soon as one of the primaries answers; raises Unavailable when none does."""
    pings = [asyncio.create_task(database.ping()) for database in primaries.values()]
    try:
        for ping in asyncio.as_completed(pings):
            with suppress(ScalelabError):
                await ping
                return
        raise Unavailable("no shard answers", code="shard_unavailable")
    finally:
        for ping in pings:
            ping.cancel()
        await asyncio.gather(*pings, return_exceptions=True)


def _peer(
    name: str, url: str, settings: OrdersSettings, tokens: ServiceTokens, metrics: Hook
) -> HttpClient:
    guard = Guard(
        name,
        timeout_s=settings.peer_deadline_s,
        breaker=BreakerPolicy(),
        retry=RetryPolicy(attempts=2),
        hooks=[metrics],
    )
    return HttpClient(url, guard=guard, timeout_s=settings.peer_timeout_s, bearer=tokens.bearer)
