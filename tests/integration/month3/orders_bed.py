"""Orders on one database, with catalog and inventory as small real HTTP servers beside it."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import aiohttp
from fastapi import APIRouter, FastAPI
from psycopg import AsyncConnection
from pydantic import BaseModel

from month3_messaging.orders import (
    CatalogPrices,
    InventoryHolds,
    OrdersApi,
    Placement,
    Sessions,
    order_saga,
    orders_router,
    sessions_on,
)
from month3_messaging.status import (
    HubSettings,
    StatusApi,
    StatusHub,
    long_poll_router,
    status_router,
)
from scalelab.clients.http import HttpClient
from scalelab.clients.postgres import Database
from scalelab.clock import SystemClock
from scalelab.errors import Conflict, NotFound, Unavailable
from scalelab.security import SigningKey, StaticJwks, TokenIssuer, TokenVerifier, jwks
from scalelab.telemetry import Telemetry, TelemetrySettings, build_telemetry
from scalelab.web import create_app, serve

ISSUER, AUDIENCE = "https://issuer.test", "shop"
HEARTBEAT_S = 0.2


def quiet_telemetry(service: str) -> Telemetry:
    return build_telemetry(TelemetrySettings(service=service), stream=io.StringIO())


class Hold(BaseModel):
    user_id: str
    lines: list[dict[str, Any]]
    ttl_s: float


@dataclass
class Peers:
    """Catalog and inventory as one server: real HTTP, and switches for trouble."""

    prices: dict[str, int] = field(default_factory=lambda: {"p-0001": 1250, "p-0002": 399})
    catalog_is_down: bool = False
    inventory_is_down: bool = False
    out_of_stock: bool = False
    asked: Counter[str] = field(default_factory=Counter[str])
    holds: dict[UUID, Hold] = field(default_factory=dict[UUID, Hold])

    def app(self) -> FastAPI:
        router = APIRouter()

        @router.get("/internal/v1/prices")
        async def prices(ids: str) -> dict[str, object]:
            self.asked["prices"] += 1
            if self.catalog_is_down:
                raise Unavailable("the catalog is down", retry_after_s=3)
            found = [
                {"product_id": one, "unit_minor": self.prices[one], "currency": "EUR"}
                for one in ids.split(",")
                if one in self.prices
            ]
            return {"prices": found}

        @router.put("/internal/v1/holds/{hold_id}")
        async def hold(hold_id: UUID, wanted: Hold) -> dict[str, str]:
            self.asked["holds"] += 1
            if self.inventory_is_down:
                raise Unavailable("the inventory is down")
            if any(line["product_id"] not in self.prices for line in wanted.lines):
                raise NotFound("no such product", code="unknown_product")
            if self.out_of_stock:
                raise Conflict("not enough", code="out_of_stock")
            self.holds[hold_id] = wanted
            return {"hold_id": str(hold_id)}

        return create_app(telemetry=quiet_telemetry("peers"), routers=[router])


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """The base URL of `app`, served on a free port in this loop."""
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    server = asyncio.create_task(
        serve(
            app,
            host="127.0.0.1",
            port=0,
            stop=stop,
            drain_s=2.0,
            on_listening=lambda _host, port: listening.set_result(port),
        )
    )
    try:
        await asyncio.wait({server, listening}, return_when=asyncio.FIRST_COMPLETED)
        if server.done():
            await server
        yield f"http://127.0.0.1:{listening.result()}"
    finally:
        stop.set()
        await server


@dataclass
class Shop:
    """A running orders service and what a customer needs to use it."""

    url: str
    http: aiohttp.ClientSession
    issuer: TokenIssuer
    verifier: TokenVerifier
    peers: Peers
    database: Database
    sessions: Sessions
    hub: StatusHub

    def headers(self, user: str, **more: str) -> dict[str, str]:
        token = self.issuer.issue(user, ["shop"], 600)
        return {"Authorization": f"Bearer {token}", **more}

    async def place(
        self, user: str, key: str, body: object | None = None
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Status, body, and headers with lower-case names."""
        async with self.http.post(
            f"{self.url}/api/v1/orders",
            json=body or order_body(),
            headers=self.headers(user, **{"Idempotency-Key": key}),
        ) as answer:
            names = {name.lower(): value for name, value in answer.headers.items()}
            return answer.status, await answer.json(content_type=None), names

    async def get(
        self, user: str, path: str, **params: str
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        async with self.http.get(
            f"{self.url}{path}", headers=self.headers(user), params=params
        ) as answer:
            names = {name.lower(): value for name, value in answer.headers.items()}
            return answer.status, await answer.json(content_type=None), names

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        async with self.database.autocommit() as conn:
            cursor = await conn.execute(query.encode())
            return await cursor.fetchall()


def order_body(quantity: int = 2) -> dict[str, object]:
    return {
        "lines": [
            {"product_id": "p-0001", "quantity": quantity},
            {"product_id": "p-0002", "quantity": 1},
        ],
        "card_token": "tok_4242424242424242",
    }


def placement_on(
    sessions: Sessions,
    catalog: HttpClient,
    *,
    reached: Callable[[str], None] = lambda _point: None,
) -> Placement:
    return Placement(
        definition=order_saga(600.0),
        sessions=sessions,
        prices=CatalogPrices(catalog),
        holds=InventoryHolds(catalog, ttl_s=120.0),
        clock=SystemClock(),
        reached=reached,
    )


@asynccontextmanager
async def open_shop(database: Database) -> AsyncIterator[Shop]:
    """The service of month 3 on `database`, with peers of its own."""
    peers = Peers()
    key = SigningKey.generate()
    verifier = TokenVerifier(StaticJwks(jwks([key])), ISSUER, AUDIENCE, SystemClock())
    sessions = sessions_on(database)
    telemetry = quiet_telemetry("orders")
    hub = StatusHub(
        [database], log=telemetry.log, settings=HubSettings(queue=2, per_user=3, reconnect_s=0.05)
    )
    async with (
        served(peers.app()) as peers_url,
        HttpClient(peers_url) as catalog,
        hub,
        aiohttp.ClientSession() as http,
    ):
        status = StatusApi(hub, sessions, verifier, HEARTBEAT_S)
        app = create_app(
            telemetry=telemetry,
            routers=[
                orders_router(OrdersApi(placement_on(sessions, catalog), sessions, verifier)),
                status_router(status),
                long_poll_router(status),
            ],
        )
        async with served(app) as url:
            issuer = TokenIssuer(key, ISSUER, AUDIENCE, SystemClock())
            yield Shop(url, http, issuer, verifier, peers, database, sessions, hub)


async def age(conn: AsyncConnection[Any], by: timedelta) -> None:
    """Move every saga's deadline into the past."""
    await conn.execute("UPDATE saga SET deadline_at = deadline_at - %s", (by,))
