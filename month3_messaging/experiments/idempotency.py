"""A customer presses "buy" once, and the request arrives more than once. How many orders?

The order door of this month on a real PostgreSQL. The reply to every purchase is lost after the
order was committed, and the client asks again; then every purchase is sent several times in the
same moment. Once with a new Idempotency-Key for each request, which is as good as none, and once
with one key for each purchase. Orders are counted in the table.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from fastapi import APIRouter, FastAPI

from month3_messaging.experiments.app_serving import serving_url
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
from scalelab.clients.http import HttpClient
from scalelab.clients.migrations import upgrade
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.errors import Conflict, InvalidInput
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import Postgres
from scalelab.security import SigningKey, StaticJwks, TokenIssuer, TokenVerifier, jwks
from scalelab.telemetry import TelemetrySettings, build_telemetry
from scalelab.web import create_app

PURCHASES_QUICK = 40
PURCHASES_FULL = 1000
COPIES = 3
_PATIENCE_S = 60.0
_PAUSE_S = 0.02
_PATH = "/api/v1/orders"
_BODY = {
    "lines": [{"product_id": "p-0001", "quantity": 1}],
    "card_token": "tok_4242424242424242",
}


@dataclass
class Tally:
    """Orders beyond one a purchase, by what went wrong. answers: order ids told to the clients,
    for each purchase. refused: error codes."""

    purchases: int
    lost: int = 0
    at_once: int = 0
    missing: int = 0
    different_answers: int = 0
    refused: Counter[str] = field(default_factory=Counter[str])


@dataclass(frozen=True, slots=True)
class Door:
    """Where a customer buys, and the table behind it."""

    url: str
    http: HttpClient
    issuer: TokenIssuer
    database: Database

    def headers(self, user: str, key: str) -> dict[str, str]:
        token = self.issuer.issue(user, ["shop"], 3600)
        return {"Authorization": f"Bearer {token}", "Idempotency-Key": key}

    async def buy(self, user: str, key: str, refused: Counter[str]) -> str:
        """The id of the order; asks again with the same key while a copy of it is in flight."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                try:
                    answer = await self.http.post(_PATH, _BODY, headers=self.headers(user, key))
                except Conflict as error:
                    refused[error.stable_code] += 1
                    await asyncio.sleep(_PAUSE_S)
                else:
                    return answer.json()["order_id"]

    async def buy_and_lose_the_reply(self, user: str, key: str) -> None:
        """Send the request, and hang up at the first byte of the answer."""
        at = urlsplit(self.url)
        body = json.dumps(_BODY).encode()
        head = [
            f"POST {_PATH} HTTP/1.1",
            f"Host: {at.netloc}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in self.headers(user, key).items()),
        ]
        async with asyncio.timeout(_PATIENCE_S):
            reader, writer = await asyncio.open_connection(at.hostname, at.port)
            writer.write("\r\n".join([*head, "", ""]).encode() + body)
            await reader.readexactly(1)
            writer.transport.abort()

    async def orders_of(self, user: str) -> int:
        """How many orders the table holds for the user."""
        async with self.database.autocommit(read_only=True) as conn:
            cursor = await conn.execute("SELECT count(*) FROM orders WHERE user_id = %s", (user,))
            row = await cursor.fetchone()
        return int(row[0]) if row else 0


def run(lab: Lab) -> Result:
    """Both ways to choose a key, on one door; each purchase by a customer of its own."""
    postgres = Postgres("purchases-postgres", settings={"fsync": "off", "full_page_writes": "off"})
    lab.runtime.start(postgres)
    dsn = postgres.ensure_database("purchases", "purchases")
    upgrade(dsn, MIGRATIONS)
    purchases = PURCHASES_QUICK if lab.quick else PURCHASES_FULL
    return asyncio.run(_run(lab, dsn, purchases))


async def _run(lab: Lab, dsn: str, purchases: int) -> Result:
    tallies: dict[str, Tally] = {}
    async with _open_door(dsn) as door:
        keyless = await _without_a_key(door)
        for name, one_key in (("a key for each request", False), ("a key for each purchase", True)):
            tallies[name] = await _purchase(door, purchases, one_key=one_key)
            lab.note(f"{name}: {tallies[name]}")
    return _judged(tallies, keyless)


async def _purchase(door: Door, purchases: int, *, one_key: bool) -> Tally:
    tally = Tally(purchases)
    for _ in range(purchases):
        user, keys = _customer(2, one_key=one_key)
        await door.buy_and_lose_the_reply(user, keys[0])
        await door.buy(user, keys[1], tally.refused)
        placed = await door.orders_of(user)
        tally.lost += placed - 1
        tally.missing += placed < 1
    for _ in range(purchases):
        user, keys = _customer(COPIES, one_key=one_key)
        told = await asyncio.gather(*(door.buy(user, key, tally.refused) for key in keys))
        placed = await door.orders_of(user)
        tally.at_once += placed - 1
        tally.missing += placed < 1
        tally.different_answers += len(set(told)) - 1
    return tally


def _customer(requests: int, *, one_key: bool) -> tuple[str, list[str]]:
    """A name, and the key of each of its requests."""
    key = str(uuid4())
    return f"user-{uuid4()}", [key if one_key else str(uuid4()) for _ in range(requests)]


async def _without_a_key(door: Door) -> tuple[str, int]:
    """What a request without a key is told, and how many orders it makes."""
    user = f"user-{uuid4()}"
    headers = door.headers(user, "")
    del headers["Idempotency-Key"]
    try:
        await door.http.post(_PATH, _BODY, headers=headers)
    except InvalidInput as error:
        return error.stable_code, await door.orders_of(user)
    return "accepted", await door.orders_of(user)


@asynccontextmanager
async def _open_door(dsn: str) -> AsyncGenerator[Door]:
    clock, key = SystemClock(), SigningKey.generate()
    verifier = TokenVerifier(StaticJwks(jwks([key])), "lab", "lab", clock)
    settings = PostgresSettings(dsn, pool_max=10, acquire_timeout_s=_PATIENCE_S)
    async with (
        Database(settings, name="purchases") as database,
        serving_url(_partners()) as partners_url,
        HttpClient(partners_url, timeout_s=_PATIENCE_S, connect_timeout_s=_PATIENCE_S) as partners,
    ):
        sessions = sessions_on(database)
        placement = Placement(
            definition=order_saga(600.0),
            sessions=sessions,
            prices=CatalogPrices(partners),
            holds=InventoryHolds(partners, ttl_s=120.0),
            clock=clock,
        )
        router = orders_router(OrdersApi(placement, sessions, verifier))
        async with (
            serving_url(_app(router)) as url,
            HttpClient(url, timeout_s=_PATIENCE_S, connect_timeout_s=_PATIENCE_S) as http,
        ):
            yield Door(url, http, TokenIssuer(key, "lab", "lab", clock), database)


def _partners() -> FastAPI:
    """A catalog with one price and an inventory that holds everything: not the question here."""
    router = APIRouter()

    @router.get("/internal/v1/prices")
    async def prices(ids: str) -> dict[str, object]:
        named = [
            {"product_id": one, "unit_minor": 100, "currency": "EUR"} for one in ids.split(",")
        ]
        return {"prices": named}

    @router.put("/internal/v1/holds/{hold_id}")
    async def hold(hold_id: UUID, wanted: dict[str, Any]) -> dict[str, str]:
        return {"hold_id": str(hold_id), "user_id": str(wanted["user_id"])}

    return _app(router)


def _app(router: APIRouter) -> FastAPI:
    telemetry = build_telemetry(TelemetrySettings(service="lab"), stream=io.StringIO())
    return create_app(telemetry=telemetry, routers=[router])


def _judged(tallies: dict[str, Tally], keyless: tuple[str, int]) -> Result:
    each, one = tallies.values()
    shape = (
        Claim(
            "With a new key for each request, every lost reply doubles an order.",
            (each.lost, each.missing) == (each.purchases, 0),
            f"{each.lost} orders too many of {each.purchases} purchases",
        ),
        Claim(
            f"And {COPIES} copies at once are {COPIES} orders.",
            each.at_once == (COPIES - 1) * each.purchases,
            f"{each.at_once} orders too many of {each.purchases} purchases",
        ),
        Claim(
            "With one key for each purchase there is one order, whether the reply was lost or the"
            " copies met.",
            (one.lost, one.at_once, one.missing) == (0, 0, 0),
            f"{one.lost} and {one.at_once} too many, {one.missing} missing",
        ),
        Claim(
            "All copies of a purchase are told of the same order.",
            one.different_answers == 0,
            f"{one.different_answers} different answers; while one was in flight"
            f" {one.refused.total()} were asked to come again",
        ),
        Claim(
            "A request without a key is refused and places nothing.",
            keyless[0] != "accepted" and keyless[1] == 0,
            f"{keyless[0]}, {keyless[1]} orders",
        ),
    )
    arms = tuple(
        Arm(
            name,
            "treatment" if found is one else "control",
            {
                "purchases": 2 * found.purchases,
                "doubled_by_lost_replies": found.lost,
                "doubled_by_copies_at_once": found.at_once,
                "in_flight_refusals": found.refused.total(),
            },
            ((0.0, float(found.lost)), (1.0, float(found.at_once))),
        )
        for name, found in tallies.items()
    )
    plot = Plot(Axis("0: reply lost, 1: copies at once"), Axis("orders too many"), "bars")
    return Result(arms, shape, plot)


EXPERIMENT = Experiment(
    slug="idempotency",
    question="A purchase is sent more than once: how many orders come of it?",
    varied="whether the copies of a request share a key; whether the reply is lost or copies meet",
    fixed="the door, its database, the purchases",
    run=run,
    topics=("C9", "P10.2"),
    needs=("postgres",),
)
