"""The inventory process: holds over HTTP, the sweeper, the consumer of order events, the relay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI
from prometheus_client import Counter
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from month3_messaging.outbox import RelayMetrics, keep_relaying
from month3_messaging.workers import EventConsumer
from month6_capstone.inventory.api import build_router
from month6_capstone.inventory.holds import sweep
from month6_capstone.inventory.orders import (
    CONSUMER,
    OVER,
    PAID,
    TOPIC,
    Desk,
    release,
    reserve,
)
from scalelab.clients.migrations import upgrade
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import Clock, SystemClock
from scalelab.errors import ScalelabError
from scalelab.security import HttpJwks, TokenVerifier, http_fetch
from scalelab.telemetry import Telemetry
from scalelab.web import create_app
from scalelab.web.background import Background


class InventorySettings(BaseSettings):
    """Environment of the inventory process.

    sweep_every_s: how long past its end a hold may keep its stock. sweep_batch: holds ended in
    one transaction.
    """

    model_config = SettingsConfigDict(env_prefix="INVENTORY_", frozen=True)

    host: str = "127.0.0.1"
    port: int = 8086
    database_dsn: str
    kafka_bootstrap: str
    jwks_url: str
    token_issuer: str
    token_audience: str
    orders_topic: str = "orders.order"
    stock_topic: str = TOPIC
    consumer_group: str = CONSUMER
    pool_max: Annotated[int, Field(ge=2)] = 12
    sweep_every_s: Annotated[float, Field(gt=0)] = 1.0
    sweep_batch: Annotated[int, Field(ge=1, le=5000)] = 200
    trace_export: str = "none"
    log_level: str = "info"


def migrate(settings: InventorySettings) -> None:
    """Bring the inventory database up to date. Blocking. Raises Unavailable."""
    upgrade(settings.database_dsn, Path(__file__).parent / "migrations")


def create(settings: InventorySettings, telemetry: Telemetry) -> FastAPI:
    """The inventory application; its background work runs for as long as its lifespan."""
    clock = SystemClock()
    database = Database(
        PostgresSettings(settings.database_dsn, pool_max=settings.pool_max),
        name="inventory",
        tracer=telemetry.tracer,
    )
    desk = Desk(database, clock, settings.consumer_group, settings.stock_topic)
    consumer = EventConsumer(
        settings.kafka_bootstrap,
        settings.consumer_group,
        [settings.orders_topic],
        {PAID: partial(reserve, desk), **{over: partial(release, desk) for over in OVER}},
        telemetry=telemetry,
    )
    background = Background()
    relay_metrics = RelayMetrics(telemetry.registry)
    sweeper = _Sweeper(database, clock, telemetry, settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        relay = keep_relaying(
            database,
            settings.kafka_bootstrap,
            client_id="inventory.outbox",
            metrics=relay_metrics,
            log=telemetry.log,
        )
        async with database, background.running(relay, sweeper.run()), consumer:
            yield

    verifier = TokenVerifier(
        HttpJwks(settings.jwks_url, http_fetch, clock=clock),
        settings.token_issuer,
        settings.token_audience,
        clock,
    )
    return create_app(
        telemetry=telemetry,
        routers=[build_router(database, verifier, clock)],
        lifespan=lifespan,
        readiness={
            "database": database.ping,
            "consumer": consumer.ready,
            "background": background.ready,
        },
        title="Inventory",
    )


class _Sweeper:
    """Ends holds that are due, every `sweep_every_s`; a failing database is tried again."""

    def __init__(
        self, database: Database, clock: Clock, telemetry: Telemetry, settings: InventorySettings
    ) -> None:
        self._database = database
        self._clock = clock
        self._log = telemetry.log
        self._every_s = settings.sweep_every_s
        self._batch = settings.sweep_batch
        self._expired = Counter(
            "scalelab_inventory_holds_expired",
            "Holds whose time ran out before their order was paid.",
            registry=telemetry.registry,
        )

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                self._expired.inc(await sweep(self._database, self._clock, batch=self._batch))
            except ScalelabError as error:
                self._log.warning("sweep_failed", code=error.stable_code, error=error.message)
