"""The intake's process: a consumer of the orders' events and a sender of jobs. Wiring only."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from month3_messaging.jobs.broker import BrokerSettings, make_app, sender
from month3_messaging.jobs.intake import GROUP, Intake
from month3_messaging.jobs.overview import overview_router
from month3_messaging.orders import ORDERS_TOPIC
from month3_messaging.workers import EventConsumer
from scalelab.clients.migrations import upgrade
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.telemetry import Telemetry
from scalelab.web import create_app
from scalelab.web.background import Background

MIGRATIONS = Path(__file__).parent / "migrations"


class IntakeSettings(BaseSettings):
    """Environment variables JOBS_… . resend_after_s: longer than a job may wait and take."""

    model_config = SettingsConfigDict(env_prefix="JOBS_", frozen=True)

    host: str = "127.0.0.1"
    port: int = 8306
    database_dsn: str
    kafka_bootstrap: str
    orders_topic: str = ORDERS_TOPIC
    resend_after_s: Annotated[float, Field(gt=0)] = 600.0
    pool_max: Annotated[int, Field(ge=2)] = 5
    trace_export: str = "none"
    log_level: str = "info"


def migrate(database_dsn: str) -> None:
    """The jobs' tables. Blocking, repeatable. Raises Unavailable."""
    upgrade(database_dsn, MIGRATIONS)


def create(settings: IntakeSettings, broker: BrokerSettings, telemetry: Telemetry) -> FastAPI:
    """The application; consumer and sender run for as long as its lifespan."""
    database = Database(
        PostgresSettings(settings.database_dsn, pool_max=settings.pool_max),
        name="jobs",
        tracer=telemetry.tracer,
    )
    app = make_app(broker)
    intake = Intake(database, sender(app), resend_after_s=settings.resend_after_s)
    consumer = EventConsumer(
        settings.kafka_bootstrap,
        GROUP,
        [settings.orders_topic],
        intake.handlers,
        telemetry=telemetry,
    )
    background = Background()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        try:
            async with database, background.running(intake.keep_sending(telemetry.log)), consumer:
                yield
        finally:
            app.close()

    return create_app(
        telemetry=telemetry,
        routers=[overview_router(database)],
        lifespan=lifespan,
        readiness={
            "database": database.ping,
            "consumer": consumer.ready,
            "background": background.ready,
        },
        title="Jobs",
    )
