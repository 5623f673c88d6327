"""The partners' process: two internal routes, two consumers, a relay, the sweeper. Wiring only.

It listens on loopback, for the other processes of the stack: there is no token to show.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import psycopg
from fastapi import APIRouter, FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from month3_messaging.orders import ORDERS_TOPIC
from month3_messaging.outbox import RelayMetrics, keep_relaying
from month3_messaging.partners import postgres as store
from month3_messaging.partners.desk import CANCELLED, PAID, PAYMENT_FAILED, PLACED, Desk
from month3_messaging.partners.postgres import Line
from month3_messaging.workers import ConsumerMetrics, EventConsumer
from scalelab.clients.migrations import upgrade
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.errors import ScalelabError
from scalelab.telemetry import Log, Telemetry
from scalelab.web import create_app, problem_responses
from scalelab.web.background import Background

CURRENCY = "EUR"


class PartnersSettings(BaseSettings):
    """Environment variables PARTNERS_… . seed_products, seed_pieces: what `prepare` puts on the
    shelves. sweep_every_s: how long past its end a hold may keep its stock."""

    model_config = SettingsConfigDict(env_prefix="PARTNERS_", frozen=True)

    host: str = "127.0.0.1"
    port: int = 8303
    database_dsn: str
    kafka_bootstrap: str
    orders_topic: str = ORDERS_TOPIC
    seed_products: Annotated[int, Field(ge=1)] = 100
    seed_pieces: Annotated[int, Field(ge=0)] = 1000
    pool_max: Annotated[int, Field(ge=2)] = 10
    sweep_every_s: Annotated[float, Field(gt=0)] = 1.0
    trace_export: str = "none"
    log_level: str = "info"


class HoldLine(BaseModel):
    """quantity pieces of one product."""

    model_config = ConfigDict(extra="forbid")

    product_id: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
    quantity: Annotated[int, Field(ge=1, le=1_000_000, strict=True)]


class HoldIn(BaseModel):
    """PUT /internal/v1/holds/{hold_id}. ttl_s: seconds until it ends by itself."""

    model_config = ConfigDict(extra="forbid")

    user_id: str
    lines: Annotated[list[HoldLine], Field(min_length=1, max_length=50)]
    ttl_s: Annotated[float, Field(gt=0, le=86_400)]


def migrate(settings: PartnersSettings) -> None:
    """Tables and products. Blocking, repeatable. Raises Unavailable."""
    upgrade(settings.database_dsn, Path(__file__).parent / "migrations")
    with psycopg.connect(settings.database_dsn) as conn:
        store.seed(conn, settings.seed_products, pieces=settings.seed_pieces)


def create(settings: PartnersSettings, telemetry: Telemetry) -> FastAPI:
    """The application; consumers, relay and sweeper run for as long as its lifespan."""
    database = Database(
        PostgresSettings(settings.database_dsn, pool_max=settings.pool_max),
        name="partners",
        tracer=telemetry.tracer,
    )
    desk = Desk(database, SystemClock())
    handlers: dict[str, dict[str, Any]] = {
        desk.payments: {PLACED: desk.capture, CANCELLED: desk.give_back},
        desk.stock: {PAID: desk.reserve, PAYMENT_FAILED: desk.release, CANCELLED: desk.release},
    }
    consumer_metrics = ConsumerMetrics(telemetry.registry)
    consumers = {
        group: EventConsumer(
            settings.kafka_bootstrap,
            group,
            [settings.orders_topic],
            own,
            telemetry=telemetry,
            metrics=consumer_metrics,
        )
        for group, own in handlers.items()
    }
    background = Background()
    metrics = RelayMetrics(telemetry.registry)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        relay = keep_relaying(
            database,
            settings.kafka_bootstrap,
            client_id="partners.outbox",
            metrics=metrics,
            log=telemetry.log,
        )
        sweeper = _sweep_forever(desk, settings.sweep_every_s, telemetry.log)
        payments, stock = consumers.values()
        async with database, background.running(relay, sweeper), payments, stock:
            yield

    return create_app(
        telemetry=telemetry,
        routers=[_router(desk)],
        lifespan=lifespan,
        readiness={
            "database": database.ping,
            "background": background.ready,
            **{f"consumer_{group}": one.ready for group, one in consumers.items()},
        },
        title="Partners",
    )


def _router(desk: Desk) -> APIRouter:
    router = APIRouter(prefix="/internal/v1")

    @router.get("/prices")
    async def prices(  # pyright: ignore[reportUnusedFunction] - the decorator registers it
        ids: Annotated[str, Query(max_length=4096)],
    ) -> dict[str, list[dict[str, Any]]]:
        """Today's price of each product that is sold; unknown ones are absent."""
        async with desk.database.autocommit(read_only=True) as conn:
            found = await store.prices(conn, ids.split(","))
        return {
            "prices": [
                {"product_id": name, "unit_minor": unit_minor, "currency": CURRENCY}
                for name, unit_minor in found.items()
            ]
        }

    @router.put("/holds/{hold_id}", responses=problem_responses(404, 409, 422))
    async def hold(hold_id: UUID, wanted: HoldIn) -> dict[str, bool]:  # pyright: ignore[reportUnusedFunction] - as above
        """Hold all lines or none. taken: this call did it, and not an earlier copy of it."""
        lines = tuple(Line(line.product_id, line.quantity) for line in wanted.lines)
        return {"taken": await desk.hold(hold_id, lines, wanted.ttl_s)}

    @router.get("/books")
    async def books() -> dict[str, int]:  # pyright: ignore[reportUnusedFunction] - as above
        """Money kept, pieces taken and pieces promised; the last two are equal."""
        async with desk.database.autocommit(read_only=True) as conn:
            return await store.books(conn)

    return router


async def _sweep_forever(desk: Desk, every_s: float, log: Log) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            await desk.sweep()
        except ScalelabError as error:
            log.warning("sweep_failed", code=error.stable_code, error=error.message)
