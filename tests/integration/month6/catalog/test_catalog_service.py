"""Claims about the shop's catalog process: its settings, and tokens by the issuer's URL."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse

from month1_caching_gateway.catalog import DatabaseSettings, Sessions, seed
from month6_capstone.catalog.service import CatalogSettings, create, migrate
from scalelab.clock import SystemClock
from scalelab.security import SigningKey, TokenIssuer, jwks
from scalelab.telemetry import Telemetry, TelemetrySettings, build_telemetry
from scalelab.web import create_app, serve

ISSUER, AUDIENCE = "https://identity.test", "shop-test"


def telemetry(service: str) -> Telemetry:
    return build_telemetry(TelemetrySettings(service), stream=io.StringIO())


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """Serve on a free port; the base URL."""
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(
            app,
            host="127.0.0.1",
            port=0,
            stop=stop,
            drain_s=2.0,
            on_listening=lambda _host, bound: port.set_result(bound),
        )
    )
    try:
        yield f"http://127.0.0.1:{await port}"
    finally:
        stop.set()
        await task


@asynccontextmanager
async def key_server(key: SigningKey) -> AsyncIterator[str]:
    """An issuer's key document, served; its URL."""
    router = APIRouter()

    @router.get("/keys")
    async def keys() -> JSONResponse:
        return JSONResponse(jwks([key]))

    async with served(create_app(telemetry=telemetry("issuer"), routers=[router])) as url:
        yield f"{url}/keys"


async def test_the_process_serves_prices_to_services_of_its_issuer(
    database_dsn: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings come from CATALOG_ variables; a token is verified by the issuer's key document."""
    key = SigningKey.generate()
    async with key_server(key) as jwks_url:
        for name, value in {
            "PORT": "0",
            "DATABASE_DSN": database_dsn,
            "REDIS_URL": redis_url,
            "JWKS_URL": jwks_url,
            "TOKEN_ISSUER": ISSUER,
            "TOKEN_AUDIENCE": AUDIENCE,
        }.items():
            monkeypatch.setenv(f"CATALOG_{name}", value)
        settings = CatalogSettings()  # pyright: ignore[reportCallIssue] - from the environment
        await asyncio.to_thread(migrate, settings)
        async with Sessions(DatabaseSettings(database_dsn)) as sessions, sessions.writing() as one:
            await seed(one, 3, 1)
        token = TokenIssuer(key, ISSUER, AUDIENCE, SystemClock()).issue(
            "orders", ["internal"], 600, client_id="orders"
        )
        app = create(settings, telemetry("catalog"))
        async with served(app) as url, httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("/health/ready")).status_code == 200
            assert (await client.get("/api/v1/products/p-0001")).headers["x-cache"] == "miss"
            assert (await client.get("/internal/v1/prices?ids=p-0001")).status_code == 401
            answer = await client.get(
                "/internal/v1/prices?ids=p-0001,p-0003,p-9999",
                headers={"Authorization": f"Bearer {token}"},
            )
    assert [price["product_id"] for price in answer.json()["prices"]] == ["p-0001", "p-0003"]
