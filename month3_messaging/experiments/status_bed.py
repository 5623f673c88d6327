"""Orders whose status can be watched in four ways, and a customer who does, over counted wires.

The saga here goes round, pending, stock reserved, pending …, until it is told to end, so that an
order has as many versions as an experiment wants. Its steps are over at once, and the service's own
sweep makes them. Everything else is the order service of this month on a real PostgreSQL.
"""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import aiohttp
from fastapi import APIRouter

from month3_messaging.broker import Event
from month3_messaging.experiments.app_serving import serving
from month3_messaging.experiments.counted_wire import Wire, counted
from month3_messaging.orders import (
    CatalogPrices,
    Fact,
    InventoryHolds,
    OrdersApi,
    Placement,
    SagaEffects,
    Status,
    orders_router,
    sessions_on,
)
from month3_messaging.status import (
    HubSettings,
    SocketSettings,
    StatusApi,
    StatusHub,
    StatusSockets,
    long_poll_router,
    serve_status_sockets,
    status_router,
)
from scalelab.clients.http import HttpClient
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.saga import DEADLINE, Kind, Rule, SagaDefinition, Step
from scalelab.security import SigningKey, StaticJwks, TokenIssuer, TokenVerifier, jwks
from scalelab.telemetry import TelemetrySettings, build_telemetry
from scalelab.web import create_app

_ISSUER, _AUDIENCE, _USER = "https://issuer.lab", "lab", "ann"
_PRICE_MINOR = 1250
_REJECTED = "inventory.stock.rejected.v1"
_GIVEN_UP = {Fact.REJECTED: Rule(Status.CANCELLED, (Status.CANCELLED,))}


def _onward(to: Status) -> Step:
    """A step that is over as soon as it is entered."""
    return Step(on={DEADLINE: Rule(to, (to,)), **_GIVEN_UP}, deadline_s=0.0)


_ROUND = SagaDefinition(
    name="round",
    start=Status.PENDING,
    steps={
        Status.PENDING: _onward(Status.STOCK_RESERVED),
        Status.STOCK_RESERVED: _onward(Status.PENDING),
        Status.CANCELLED: Step(kind=Kind.END),
    },
)


@dataclass(slots=True)
class Orders:
    """The service. http, live: wires to its two doors, the second of which is `sockets` at
    `live_port`. open: orders that have not ended."""

    http: Wire
    live: Wire
    bearer: dict[str, str]
    client: aiohttp.ClientSession
    effects: SagaEffects
    database: Database
    sockets: StatusSockets
    live_port: int
    open: list[UUID] = field(default_factory=list[UUID])

    @property
    def url(self) -> str:
        """Of the orders, through the wire."""
        return f"http://127.0.0.1:{self.http.port}/api/v1/orders"

    async def place(self) -> UUID:
        """A new order; it has version 1."""
        body = {
            "lines": [{"product_id": "p-0001", "quantity": 1}],
            "card_token": "tok_4242424242424242",
        }
        headers = {**self.bearer, "Idempotency-Key": str(uuid4())}
        async with self.client.post(self.url, json=body, headers=headers) as answer:
            answer.raise_for_status()
            order_id = UUID((await answer.json())["order_id"])
        self.open.append(order_id)
        return order_id

    async def move(self) -> None:
        """Give every open order its next status, as the service's sweep does when time is up."""
        moved = await self.effects.sweep(self.database.transaction)
        if moved != len(self.open):
            raise AssertionError(f"{moved} orders moved, {len(self.open)} are open")

    async def end(self) -> None:
        """Cancel every open order, which is the last that is heard of it."""
        for order_id in self.open:
            data = {"order_id": str(order_id)}
            event = Event(uuid4(), _REJECTED, "/lab", str(order_id), datetime.now(UTC), data)
            await self.effects.on_event(event)
        self.open.clear()


@asynccontextmanager
async def orders_on(
    dsn: str, *, streams_max: int = 64, settings: SocketSettings | None = None
) -> AsyncGenerator[Orders]:
    """The service on a database that has its tables, and one customer of it.

    streams_max: that the customer may hold. settings: of the WebSocket listener.
    """
    clock = SystemClock()
    telemetry = build_telemetry(TelemetrySettings(service="orders"), stream=io.StringIO())
    key = SigningKey.generate()
    verifier = TokenVerifier(StaticJwks(jwks([key])), _ISSUER, _AUDIENCE, clock)
    token = TokenIssuer(key, _ISSUER, _AUDIENCE, clock).issue(_USER, ["shop"], 3600)
    bounds = HubSettings(per_user=streams_max, watchers=streams_max)
    async with (
        Database(PostgresSettings(dsn, pool_max=10), name="orders") as database,
        StatusHub([database], log=telemetry.log, settings=bounds) as hub,
        _peers() as peers,
        serve_status_sockets(
            hub,
            sessions_on(database),
            verifier,
            clock=clock,
            log=telemetry.log,
            settings=settings,
        ) as (sockets, live_port),
    ):
        sessions = sessions_on(database)
        status = StatusApi(hub, sessions, verifier, heartbeat_s=3600.0)
        placement = Placement(
            _ROUND, sessions, CatalogPrices(peers), InventoryHolds(peers, ttl_s=3600.0), clock
        )
        routers = [
            orders_router(OrdersApi(placement, sessions, verifier)),
            status_router(status),
            long_poll_router(status),
        ]
        await hub.ready()
        async with (
            serving(create_app(telemetry=telemetry, routers=routers)) as port,
            counted(port) as http,
            counted(live_port) as live,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as client,
        ):
            bearer = {"Authorization": f"Bearer {token}"}
            effects = SagaEffects(_ROUND, sessions, clock)
            yield Orders(http, live, bearer, client, effects, database, sockets, live_port)


@asynccontextmanager
async def _peers() -> AsyncGenerator[HttpClient]:
    """A catalog with one price and an inventory that holds everything."""
    router = APIRouter()

    @router.get("/internal/v1/prices")
    async def prices(ids: str) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        one = {"unit_minor": _PRICE_MINOR, "currency": "EUR"}
        return {"prices": [{"product_id": name, **one} for name in ids.split(",")]}

    @router.put("/internal/v1/holds/{hold_id}")
    async def hold(hold_id: UUID) -> dict[str, str]:  # pyright: ignore[reportUnusedFunction]
        return {"hold_id": str(hold_id)}

    telemetry = build_telemetry(TelemetrySettings(service="peers"), stream=io.StringIO())
    async with (
        serving(create_app(telemetry=telemetry, routers=[router])) as port,
        HttpClient(f"http://127.0.0.1:{port}", timeout_s=30.0, connect_timeout_s=30.0) as client,
    ):
        yield client
