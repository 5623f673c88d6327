"""What happens to orders when nobody is asking: relay, saga, deadlines, clean-up. Wiring only.

Any number of workers may run: one relay is active, the consumer group shares the partitions.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Literal

from fastapi import FastAPI
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from month3_messaging.orders import (
    FACTS,
    PAYMENTS_TOPIC,
    STOCK_TOPIC,
    SagaEffects,
    clean_forever,
    order_saga,
    sessions_on,
    sweep_forever,
)
from month3_messaging.outbox import (
    FollowLog,
    RelayMetrics,
    SlotMetrics,
    SlotPlace,
    keep_relaying,
)
from month3_messaging.workers import ConsumerSettings, EventConsumer, OnFailure
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.telemetry import Telemetry
from scalelab.web import create_app
from scalelab.web.background import Background

GROUP = "orders"


class WorkerSettings(BaseSettings):
    """Environment variables ORDERS_WORKER_… . payment_time_limit_s: as in the door. keep_s: how
    long the inbox and idempotency keys are remembered; longer than the topics keep events.
    on_failure: whether an event that fails leaves its order's sequence or holds it back. relay:
    whether events are read off the table or off the database's log, for which the role needs
    REPLICATION; without it the table is polled all the same. slot_owner: who is told of a slot
    that is left behind."""

    model_config = SettingsConfigDict(env_prefix="ORDERS_WORKER_", frozen=True)

    host: str = "127.0.0.1"
    port: int = 8302
    database_dsn: str
    kafka_bootstrap: str
    pool_max: Annotated[int, Field(ge=2)] = 10
    payment_time_limit_s: Annotated[float, Field(gt=0)] = 600.0
    sweep_every_s: Annotated[float, Field(gt=0)] = 1.0
    clean_every_s: Annotated[float, Field(gt=0)] = 60.0
    keep_s: Annotated[float, Field(ge=86_400)] = 14 * 86_400.0
    on_failure: OnFailure = OnFailure.MOVE_ASIDE
    relay: Literal["poll", "log"] = "poll"
    slot_name: str = "orders_outbox"
    slot_owner: str = "orders"
    trace_export: str = "none"
    log_level: str = "info"


def create_worker(settings: WorkerSettings, telemetry: Telemetry) -> FastAPI:
    """Probes and metrics; the work runs in its lifespan."""
    clock = SystemClock()
    database = Database(
        PostgresSettings(settings.database_dsn, pool_max=settings.pool_max),
        name="orders",
        tracer=telemetry.tracer,
    )
    effects = SagaEffects(
        definition=order_saga(settings.payment_time_limit_s),
        sessions=sessions_on(database),
        clock=clock,
        consumer=GROUP,
    )
    consumer = EventConsumer(
        settings.kafka_bootstrap,
        GROUP,
        [PAYMENTS_TOPIC, STOCK_TOPIC],
        dict.fromkeys(FACTS, effects.on_event),
        telemetry=telemetry,
        settings=ConsumerSettings(on_failure=settings.on_failure),
    )
    background = Background()
    metrics = RelayMetrics(telemetry.registry)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        relay = keep_relaying(
            database,
            settings.kafka_bootstrap,
            client_id="orders.outbox",
            metrics=metrics,
            log=telemetry.log,
            follow=_log_to_follow(settings, telemetry),
        )
        sweeping = sweep_forever(
            database, effects, every_s=settings.sweep_every_s, log=telemetry.log
        )
        cleaning = clean_forever(
            database,
            clock,
            every_s=settings.clean_every_s,
            inbox_keep_s=settings.keep_s,
            keys_keep_s=settings.keep_s,
            log=telemetry.log,
        )
        async with database, background.running(relay, sweeping, cleaning), consumer:
            yield

    return create_app(
        telemetry=telemetry,
        routers=[],
        lifespan=lifespan,
        readiness={
            "database": database.ping,
            "consumer": consumer.ready,
            "background": background.ready,
        },
        title="Orders worker",
    )


def _log_to_follow(settings: WorkerSettings, telemetry: Telemetry) -> FollowLog | None:
    if settings.relay == "poll":
        return None
    place = SlotPlace(settings.database_dsn, settings.slot_name, settings.slot_owner)
    return FollowLog(place, SlotMetrics(telemetry.registry))
