"""The orders' door: the API, and status by stream, long poll and WebSocket. Wiring only.

Failure policies: a partner away means that nothing is placed (503), reads go on. Kafka away is
not noticed here: events wait in the outbox.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from month3_messaging.orders import (
    MIGRATIONS,
    CatalogPrices,
    InventoryHolds,
    OrdersApi,
    Placement,
    order_saga,
    orders_router,
    sessions_on,
)
from month3_messaging.status import (
    StatusApi,
    StatusHub,
    long_poll_router,
    serve_status_sockets,
    status_router,
)
from scalelab.clients.http import HttpClient
from scalelab.clients.migrations import upgrade
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.resilience import BreakerPolicy, Guard, GuardMetrics, RetryPolicy
from scalelab.security import HttpJwks, TokenVerifier, http_fetch
from scalelab.telemetry import Telemetry
from scalelab.web import create_app


class DoorSettings(BaseSettings):
    """Environment variables ORDERS_… . hold_ttl_s: how long stock is held for an order that is not
    paid yet. payment_time_limit_s: after which a pending order is cancelled; the worker must be
    told the same. partners_deadline_s: all attempts at the partners together. live_port: of the
    WebSocket listener, which is no ASGI app and so has a port of its own."""

    model_config = SettingsConfigDict(env_prefix="ORDERS_", frozen=True)

    host: str = "127.0.0.1"
    port: int = 8301
    live_port: int = 8310
    database_dsn: str
    partners_url: str
    jwks_url: str
    token_issuer: str
    token_audience: str
    pool_max: Annotated[int, Field(ge=2)] = 10
    hold_ttl_s: Annotated[float, Field(gt=0)] = 120.0
    payment_time_limit_s: Annotated[float, Field(gt=0)] = 600.0
    partners_timeout_s: Annotated[float, Field(gt=0)] = 2.0
    partners_deadline_s: Annotated[float, Field(gt=0)] = 4.5
    heartbeat_s: Annotated[float, Field(gt=0)] = 15.0
    trace_export: str = "none"
    log_level: str = "info"


def migrate(database_dsn: str) -> None:
    """The orders' tables. Blocking, repeatable. Raises Unavailable."""
    upgrade(database_dsn, MIGRATIONS)


def create_door(settings: DoorSettings, telemetry: Telemetry) -> FastAPI:
    """The application."""
    clock = SystemClock()
    database = Database(
        PostgresSettings(settings.database_dsn, pool_max=settings.pool_max),
        name="orders",
        tracer=telemetry.tracer,
    )
    guard = Guard(
        "partners",
        timeout_s=settings.partners_deadline_s,
        breaker=BreakerPolicy(),
        retry=RetryPolicy(attempts=2),
        hooks=[GuardMetrics(telemetry.registry)],
    )
    partners = HttpClient(settings.partners_url, guard=guard, timeout_s=settings.partners_timeout_s)
    sessions = sessions_on(database)
    verifier = TokenVerifier(
        HttpJwks(settings.jwks_url, http_fetch, clock=clock),
        settings.token_issuer,
        settings.token_audience,
        clock,
    )
    placement = Placement(
        definition=order_saga(settings.payment_time_limit_s),
        sessions=sessions,
        prices=CatalogPrices(partners),
        holds=InventoryHolds(partners, ttl_s=settings.hold_ttl_s),
        clock=clock,
    )
    hub = StatusHub([database], log=telemetry.log)
    status = StatusApi(hub, sessions, verifier, settings.heartbeat_s)

    live = serve_status_sockets(
        hub,
        sessions,
        verifier,
        clock=clock,
        log=telemetry.log,
        host=settings.host,
        port=settings.live_port,
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        async with database, partners, hub, live:
            yield

    return create_app(
        telemetry=telemetry,
        routers=[
            orders_router(OrdersApi(placement, sessions, verifier)),
            status_router(status),
            long_poll_router(status),
        ],
        lifespan=lifespan,
        readiness={"database": database.ping},
        title="Orders",
    )
