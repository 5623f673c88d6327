"""Applications on free ports, and an issuer whose tokens they accept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from io import StringIO
from typing import Any

from fastapi import APIRouter, FastAPI

from scalelab.clients.http import HttpClient
from scalelab.clock import SystemClock
from scalelab.errors import ScalelabError
from scalelab.security import SigningKey, TokenIssuer, jwks
from scalelab.telemetry import Telemetry, TelemetrySettings, build_telemetry
from scalelab.web import create_app, serve

ISSUER = "https://issuer.test"
AUDIENCE = "shop"


def quiet(service: str) -> Telemetry:
    """Telemetry whose log goes nowhere."""
    return build_telemetry(TelemetrySettings(service), stream=StringIO())


@asynccontextmanager
async def serving(app: FastAPI, *, until_ready: bool = False) -> AsyncGenerator[str]:
    """Serve `app` until the block ends; gives its base URL. Raises what keeps it from starting."""
    stop = asyncio.Event()
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def heard(host: str, port: int) -> None:
        listening.set_result(f"http://{host}:{port}")

    task = asyncio.create_task(
        serve(app, host="127.0.0.1", port=0, stop=stop, drain_s=2, on_listening=heard)
    )
    try:
        await asyncio.wait([task, listening], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        url = listening.result()
        if until_ready:
            await ready(url)
        yield url
    finally:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)


async def ready(url: str) -> None:
    """Return when the readiness probe says yes."""
    async with HttpClient(url) as http, asyncio.timeout(60):
        while True:
            try:
                await http.get("/health/ready")
            except ScalelabError:
                await asyncio.sleep(0.05)
            else:
                return


class Issuer:
    """Signs tokens; `url` serves the key."""

    def __init__(self, key: SigningKey, url: str) -> None:
        self.url = url
        self._issuer = TokenIssuer(key, ISSUER, AUDIENCE, SystemClock())

    def headers(self, scope: str = "internal") -> dict[str, str]:
        return {"Authorization": f"Bearer {self._issuer.issue('orders', [scope], 60)}"}

    def settings(self) -> dict[str, Any]:
        """The settings by which a service trusts this issuer."""
        return {"jwks_url": self.url, "token_issuer": ISSUER, "token_audience": AUDIENCE}


@asynccontextmanager
async def issuer() -> AsyncGenerator[Issuer]:
    """An issuer with its JWKS over HTTP."""
    key = SigningKey.generate()
    router = APIRouter()

    @router.get("/jwks.json")
    async def keys() -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction] - the decorator registers it
        return dict(jwks([key]))

    app = create_app(telemetry=quiet("issuer"), routers=[router])
    async with serving(app) as url:
        yield Issuer(key, f"{url}/jwks.json")
