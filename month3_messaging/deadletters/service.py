"""The desk's process: API and page, collector and sender. Wiring only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from month3_messaging.deadletters.api import desk_router
from month3_messaging.deadletters.carrying import collect, send_decided
from month3_messaging.deadletters.cleaning import clean_forever
from month3_messaging.deadletters.desk import Desk, Source
from month3_messaging.deadletters.page import page_router
from scalelab.clients.migrations import upgrade
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.security import HttpJwks, TokenVerifier, http_fetch
from scalelab.telemetry import Telemetry
from scalelab.web import create_app
from scalelab.web.background import Background

MIGRATIONS = Path(__file__).parent / "migrations"


class DeskSettings(BaseSettings):
    """Environment variables DESK_… . sources: JSON, the topics that each consumer group reads:
    {"orders": ["payments.payment", …], …}. keep_s: how long a letter stays that was replayed or
    discarded; longer than its topics keep events."""

    model_config = SettingsConfigDict(env_prefix="DESK_", frozen=True)

    host: str = "127.0.0.1"
    port: int = 8305
    database_dsn: str
    kafka_bootstrap: str
    sources: dict[str, list[str]]
    jwks_url: str
    token_issuer: str
    token_audience: str
    pool_max: Annotated[int, Field(ge=4)] = 5
    keep_s: Annotated[float, Field(ge=86_400)] = 90 * 86_400.0
    clean_every_s: Annotated[float, Field(gt=0)] = 3600.0
    trace_export: str = "none"
    log_level: str = "info"


def migrate(database_dsn: str) -> None:
    """The desk's tables. Blocking, repeatable. Raises Unavailable."""
    upgrade(database_dsn, MIGRATIONS)


def sources_of(settings: DeskSettings) -> Sequence[Source]:
    """Whose letters the desk keeps."""
    return [Source(group, topics) for group, topics in settings.sources.items()]


def create(settings: DeskSettings, telemetry: Telemetry) -> FastAPI:
    """The application; collector and sender run for as long as its lifespan."""
    database = Database(
        PostgresSettings(settings.database_dsn, pool_max=settings.pool_max),
        name="desk",
        tracer=telemetry.tracer,
    )
    desk = Desk(database, sources_of(settings))
    verifier = TokenVerifier(
        HttpJwks(settings.jwks_url, http_fetch, clock=SystemClock()),
        settings.token_issuer,
        settings.token_audience,
        SystemClock(),
    )
    background = Background()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        collecting = collect(desk, settings.kafka_bootstrap, log=telemetry.log)
        sending = send_decided(desk, settings.kafka_bootstrap, log=telemetry.log)
        cleaning = clean_forever(
            desk, keep_s=settings.keep_s, every_s=settings.clean_every_s, log=telemetry.log
        )
        async with database, background.running(collecting, sending, cleaning):
            yield

    return create_app(
        telemetry=telemetry,
        routers=[desk_router(desk, verifier), page_router(desk, verifier)],
        lifespan=lifespan,
        readiness={"database": database.ping, "background": background.ready},
        title="Dead-letter desk",
    )
