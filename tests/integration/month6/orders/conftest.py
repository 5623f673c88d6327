"""The two orders processes on two shards, a real Kafka, and peers that speak real HTTP."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import psycopg
import pytest
from fastapi import APIRouter, FastAPI, Request

from month2_databases.sharding import ShardSettings
from month6_capstone.orders import service, shards, worker
from month6_capstone.orders.service import OrdersSettings
from month6_capstone.orders.worker import OrdersWorkerSettings
from scalelab.clock import SystemClock
from scalelab.lab.servers import Postgres
from scalelab.security import SigningKey, TokenIssuer, jwks
from scalelab.telemetry import Telemetry, TelemetrySettings, build_telemetry
from scalelab.web import create_app, serve

ISSUER, AUDIENCE = "https://identity.test", "shop"


def telemetry_of(name: str) -> Telemetry:
    return build_telemetry(TelemetrySettings(service=name), stream=io.StringIO())


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
class Peers:
    """Identity, catalog and inventory as one server."""

    key: SigningKey = field(default_factory=SigningKey.generate)
    bearers: list[str] = field(default_factory=list[str])

    def app(self) -> FastAPI:
        router = APIRouter()
        issuer = self.issuer()

        @router.get("/.well-known/jwks.json")
        async def keys() -> dict[str, Any]:
            return dict(jwks([self.key]))

        @router.post("/oauth2/token")
        async def token() -> dict[str, object]:
            text = issuer.issue("orders", ["internal"], 600, client_id="orders")
            return {"access_token": text, "token_type": "Bearer", "expires_in": 600}

        @router.get("/internal/v1/prices")
        async def prices(ids: str, request: Request) -> dict[str, object]:
            self.bearers.append(request.headers["authorization"])
            listed = [
                {"product_id": one, "unit_minor": 500, "currency": "EUR"} for one in ids.split(",")
            ]
            return {"prices": listed}

        @router.put("/internal/v1/holds/{hold_id}")
        async def hold(hold_id: str) -> dict[str, str]:
            return {"hold_id": hold_id}

        return create_app(telemetry=telemetry_of("peers"), routers=[router])

    def issuer(self) -> TokenIssuer:
        return TokenIssuer(self.key, ISSUER, AUDIENCE, SystemClock())


@dataclass
class Shop:
    """A running pair of processes and a customer's tools."""

    url: str
    worker_url: str
    http: aiohttp.ClientSession
    peers: Peers
    dsns: dict[str, str]
    topics: dict[str, str]

    def headers(self, user: str, **more: str) -> dict[str, str]:
        token = self.peers.issuer().issue(user, ["shop"], 600)
        return {"Authorization": f"Bearer {token}", **more}

    async def place(self, user: str, key: str) -> aiohttp.ClientResponse:
        body = {
            "lines": [{"product_id": "p-0001", "quantity": 2}],
            "card_token": "tok_4242424242424242",
        }
        headers = self.headers(user, **{"Idempotency-Key": key})
        answer = await self.http.post(f"{self.url}/api/v1/orders", json=body, headers=headers)
        await answer.read()
        return answer

    async def get(self, url: str, user: str = "nobody", **headers: str) -> aiohttp.ClientResponse:
        answer = await self.http.get(url, headers=self.headers(user, **headers))
        await answer.read()
        return answer

    def rows(self, shard: str, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsns[shard]) as conn:
            return conn.execute(query.encode()).fetchall()


@pytest.fixture
def shard_dsns(postgres_server: Postgres) -> Iterator[dict[str, str]]:
    """Two fresh databases, a shard each."""
    names = {f"shard-{n}": f"t_{uuid4().hex[:16]}" for n in range(2)}
    yield {shard: postgres_server.ensure_database(name, "tester") for shard, name in names.items()}
    with psycopg.connect(postgres_server.superuser_dsn(), autocommit=True) as conn:
        for name in names.values():
            conn.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@asynccontextmanager
async def open_shop(
    dsns: dict[str, str],
    map_dsn: str,
    bootstrap: str,
    prefix: str,
    folder: Path,
    *,
    dead: str | None = None,
) -> AsyncIterator[Shop]:
    """Both processes over both shards. dead: a shard that the processes cannot reach."""
    secret = folder / "consistency"
    secret.write_text("a-secret-of-more-than-16-bytes\n")
    client = folder / "client-orders"
    client.write_text("secret\n")
    reached = {
        name: "postgresql://nobody@127.0.0.1:1/none" if name == dead else dsn
        for name, dsn in dsns.items()
    }
    shards_told = json.dumps([{"name": name, "primary": dsn} for name, dsn in reached.items()])
    topics = {"payments": f"{prefix}payments", "stock": f"{prefix}stock"}
    peers = Peers()
    async with AsyncExitStack() as stack:
        peers_url = await stack.enter_async_context(served(peers.app()))
        settings = OrdersSettings(
            shards=shards_told,
            map_dsn=map_dsn,
            consistency_secret_file=secret,
            catalog_url=peers_url,
            inventory_url=peers_url,
            jwks_url=f"{peers_url}/.well-known/jwks.json",
            token_issuer=ISSUER,
            token_audience=AUDIENCE,
            token_url=f"{peers_url}/oauth2/token",
            client_id="orders",
            client_secret_file=client,
        )
        worker_settings = OrdersWorkerSettings(
            shards=shards_told,
            map_dsn=map_dsn,
            consistency_secret_file=secret,
            kafka_bootstrap=bootstrap,
            consumer_group=f"{prefix}orders",
            payments_topic=topics["payments"],
            stock_topic=topics["stock"],
            sweep_every_s=0.1,
        )
        url = await stack.enter_async_context(
            served(service.create(settings, telemetry_of("orders")))
        )
        worker_url = await stack.enter_async_context(
            served(worker.create(worker_settings, telemetry_of("orders-worker")))
        )
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Shop(url, worker_url, http, peers, dsns, topics)


@pytest.fixture
async def migrated(shard_dsns: dict[str, str], database_dsn: str) -> dict[str, str]:
    """Both shards and the map, prepared twice: the second time finds nothing to do."""
    both = [ShardSettings(name, dsn) for name, dsn in shard_dsns.items()]
    for _ in range(2):
        await asyncio.to_thread(shards.prepare, both, database_dsn)
    return shard_dsns


@pytest.fixture
async def shop(
    migrated: dict[str, str],
    database_dsn: str,
    kafka_bootstrap: str,
    topic_prefix: str,
    tmp_path: Path,
) -> AsyncIterator[Shop]:
    async with open_shop(migrated, database_dsn, kafka_bootstrap, topic_prefix, tmp_path) as opened:
        yield opened
