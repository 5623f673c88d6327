"""The catalogue as an app: its parts put together, and their lifetimes.

What happens when a dependency is gone: without Redis every read goes to the database (X-Cache:
bypass) and the service stays ready; without the database cached products are still served, the
rest is 503, and the service is not ready.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fastapi import FastAPI

from month1_caching_gateway.caching import Policy, count_events
from month1_caching_gateway.catalog.catalog import Catalog
from month1_caching_gateway.catalog.database import DatabaseSettings, Sessions
from month1_caching_gateway.catalog.routes import STATUSES, catalog_router
from month1_caching_gateway.catalog.versions import Lifetime
from scalelab.clients import migrations, redis
from scalelab.clock import Clock, SystemClock
from scalelab.security import TokenVerifier
from scalelab.telemetry import Telemetry
from scalelab.web import create_app


@dataclass(frozen=True, slots=True)
class CatalogConfig:
    """redis_timeout_s: for each answer of Redis; past it the database is asked. max_age_s: whole
    seconds others may keep a public answer. v1_lifetime: None where version 1 is the only one."""

    database: DatabaseSettings
    redis_url: str
    policy: Policy = field(default_factory=Policy)
    redis_timeout_s: float = 0.25
    redis_connections: int = 64
    max_age_s: int = 5
    v1_lifetime: Lifetime | None = None


def create_catalog_app(
    config: CatalogConfig,
    *,
    telemetry: Telemetry,
    verifier: TokenVerifier,
    clock: Clock | None = None,
    random: Random | None = None,
) -> FastAPI:
    """The catalogue over `config.database`, which `migrate` must have brought up to date.

    random: spreads cache lifetimes. Connections open on first use and close with the lifespan.
    """
    sessions = Sessions(config.database)
    client = redis.connect(
        config.redis_url,
        timeout_s=config.redis_timeout_s,
        max_connections=config.redis_connections,
        client_name="catalog",
    )
    catalog = Catalog(
        sessions,
        client,
        policy=config.policy,
        clock=clock or SystemClock(),
        hook=count_events(telemetry.registry, "product"),
        random=random or Random(),
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with sessions, catalog.cache:
            try:
                yield
            finally:
                await client.aclose()

    return create_app(
        telemetry=telemetry,
        title="Catalogue",
        routers=[
            catalog_router(
                catalog, verifier, max_age_s=config.max_age_s, lifetime=config.v1_lifetime
            )
        ],
        lifespan=lifespan,
        readiness={"database": sessions.ping},
        statuses=STATUSES,
        clock=clock,
    )


def migrate(dsn: str) -> None:
    """Bring the catalogue's schema up to date. Blocking; safe to run in several processes."""
    migrations.upgrade(dsn, Path(__file__).with_name("migrations"))
