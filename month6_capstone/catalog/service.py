"""The catalog process: settings and wiring around month 1's app factory."""

from __future__ import annotations

from fastapi import FastAPI
from pydantic_settings import BaseSettings, SettingsConfigDict

from month1_caching_gateway import catalog
from month1_caching_gateway.caching import Policy
from scalelab.clock import SystemClock
from scalelab.security import HttpJwks, TokenVerifier
from scalelab.security.aiohttp_fetch import fetch
from scalelab.telemetry import Telemetry


class CatalogSettings(BaseSettings):
    """Environment variables CATALOG_…; times in seconds.

    cache_ttl_s: bound of staleness when an invalidation is lost. max_age_s: how long others may
    keep a public answer without asking again.
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
    trace_export: str = "none"
    log_level: str = "info"


def create(settings: CatalogSettings, telemetry: Telemetry) -> FastAPI:
    """The app over a migrated database."""
    clock = SystemClock()
    return catalog.create_catalog_app(
        catalog.CatalogConfig(
            database=catalog.DatabaseSettings(
                dsn=settings.database_dsn, pool_max=settings.database_pool
            ),
            redis_url=settings.redis_url,
            policy=Policy(ttl_s=settings.cache_ttl_s, negative_ttl_s=settings.cache_negative_ttl_s),
            max_age_s=settings.max_age_s,
        ),
        telemetry=telemetry,
        verifier=TokenVerifier(
            HttpJwks(settings.jwks_url, fetch, clock=clock),
            settings.token_issuer,
            settings.token_audience,
            clock,
        ),
        clock=clock,
    )


def migrate(settings: CatalogSettings) -> None:
    """Bring the schema up to date. Blocking; safe to run in several processes."""
    catalog.migrate(settings.database_dsn)
