"""The catalogue as a process of this month's stack: settings, wiring, first rows."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, time

from fastapi import FastAPI
from pydantic_settings import BaseSettings, SettingsConfigDict

from month1_caching_gateway.caching import Policy
from month1_caching_gateway.catalog.app import CatalogConfig, create_catalog_app, migrate
from month1_caching_gateway.catalog.database import DatabaseSettings
from month1_caching_gateway.catalog.seed import fill
from month1_caching_gateway.catalog.versions import Lifetime
from scalelab.clock import SystemClock
from scalelab.security import HttpJwks, TokenVerifier, http_fetch
from scalelab.telemetry import Telemetry


class CatalogSettings(BaseSettings):
    """Environment variables CATALOG_…; times in seconds.

    cache_ttl_s: bound of staleness when an invalidation is lost. max_age_s: how long others may
    keep a public answer without asking again. v1_…_on: when version 1 was declared old, and when
    it may go (00:00 UTC).
    seed_products: how many products `prepare` inserts; seed_number: which ones.
    """

    model_config = SettingsConfigDict(env_prefix="CATALOG_", frozen=True)

    host: str = "127.0.0.1"
    port: int
    database_dsn: str
    database_pool: int = 8
    redis_url: str
    jwks_url: str
    token_issuer: str
    token_audience: str
    cache_ttl_s: float = 60.0
    cache_negative_ttl_s: float = 5.0
    max_age_s: int = 5
    v1_deprecated_on: date = date(2026, 11, 1)
    v1_sunset_on: date = date(2027, 11, 1)
    seed_products: int = 500
    seed_number: int = 1
    trace_export: str = "none"
    log_level: str = "info"


def create(settings: CatalogSettings, telemetry: Telemetry) -> FastAPI:
    """The app over a migrated database."""
    clock = SystemClock()
    return create_catalog_app(
        CatalogConfig(
            database=DatabaseSettings(dsn=settings.database_dsn, pool_max=settings.database_pool),
            redis_url=settings.redis_url,
            policy=Policy(ttl_s=settings.cache_ttl_s, negative_ttl_s=settings.cache_negative_ttl_s),
            max_age_s=settings.max_age_s,
            v1_lifetime=Lifetime(
                datetime.combine(settings.v1_deprecated_on, time(), UTC),
                datetime.combine(settings.v1_sunset_on, time(), UTC),
            ),
        ),
        telemetry=telemetry,
        verifier=TokenVerifier(
            HttpJwks(settings.jwks_url, http_fetch, clock=clock),
            settings.token_issuer,
            settings.token_audience,
            clock,
        ),
        clock=clock,
    )


async def prepare(settings: CatalogSettings) -> None:
    """Bring the schema up to date and insert the seeded products that are missing. Repeatable."""
    await asyncio.to_thread(migrate, settings.database_dsn)
    await fill(settings.database_dsn, settings.seed_products, settings.seed_number)
