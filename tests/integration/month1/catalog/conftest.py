"""A catalogue over real servers, with a token issuer of its own."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import pytest
from fastapi import FastAPI

from month1_caching_gateway.catalog import (
    CatalogConfig,
    DatabaseSettings,
    Lifetime,
    create_catalog_app,
    fill,
    migrate,
)
from scalelab.clock import SystemClock
from scalelab.security import SigningKey, StaticJwks, TokenIssuer, TokenVerifier, jwks
from scalelab.telemetry import TelemetrySettings, build_telemetry
from tests.fixtures.databases import DatabaseOf

ISSUER, AUDIENCE = "https://issuer.test", "catalog-test"
PRODUCTS = 25
LIFETIME = Lifetime(datetime(2026, 3, 1, tzinfo=UTC), datetime(2027, 3, 1, 12, tzinfo=UTC))
"""When version 1 of the tests' catalogue was declared old, and when it may go."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """A running catalogue: how to call it, and what stands behind it."""

    app: FastAPI
    client: httpx.AsyncClient
    issuer: TokenIssuer
    dsn: str
    redis_url: str

    def bearer(self, *scopes: str) -> dict[str, str]:
        """The header of a token with these scopes."""
        return {"Authorization": f"Bearer {self.issuer.issue('someone', scopes, 600)}"}


def build_shelf(dsn: str, redis_url: str) -> Shelf:
    """An app that nobody has started, and a client that calls it in process."""
    key, clock = SigningKey.generate(), SystemClock()
    app = create_catalog_app(
        CatalogConfig(
            DatabaseSettings(dsn, acquire_timeout_s=30.0),
            redis_url,
            redis_timeout_s=5.0,
            v1_lifetime=LIFETIME,
        ),
        telemetry=build_telemetry(TelemetrySettings("catalog"), stream=io.StringIO()),
        verifier=TokenVerifier(StaticJwks(jwks([key])), ISSUER, AUDIENCE, clock),
    )
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://catalog.test")
    return Shelf(app, client, TokenIssuer(key, ISSUER, AUDIENCE, clock), dsn, redis_url)


@asynccontextmanager
async def open_shelf(dsn: str, redis_url: str) -> AsyncIterator[Shelf]:
    """An app with its lifespan running, called in process."""
    shelf = build_shelf(dsn, redis_url)
    async with shelf.app.router.lifespan_context(shelf.app), shelf.client:
        yield shelf


def stock(dsn: str) -> None:
    """Migrate, and put the first PRODUCTS products of seed 1 in."""
    migrate(dsn)
    asyncio.run(fill(dsn, PRODUCTS, 1))


@pytest.fixture
def stocked_dsn(database_of: DatabaseOf) -> str:
    """A migrated database with the first PRODUCTS products of seed 1."""
    return database_of(stock)


@pytest.fixture
async def shelf(stocked_dsn: str, redis_url: str) -> AsyncIterator[Shelf]:
    """A catalogue with PRODUCTS products and an empty cache."""
    async with open_shelf(stocked_dsn, redis_url) as opened:
        yield opened
