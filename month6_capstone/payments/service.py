"""The payments process: an internal API, the consumer of order events, and the outbox relay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from month3_messaging.outbox import RelayMetrics, keep_relaying
from month3_messaging.workers import EventConsumer
from month6_capstone.payments import postgres as store
from month6_capstone.payments.capture import capture
from month6_capstone.payments.desk import CONSUMER, TOPIC, Desk
from month6_capstone.payments.messages import CANCELLED, PLACED
from month6_capstone.payments.payment import Payment
from month6_capstone.payments.provider_client import ProviderClient
from month6_capstone.payments.refund import give_back, recheck
from scalelab.clients.http import HttpClient
from scalelab.clients.migrations import upgrade
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.errors import NotFound, ScalelabError
from scalelab.resilience import BreakerPolicy, Guard, GuardMetrics, RetryPolicy
from scalelab.security import HttpJwks, TokenVerifier, http_fetch
from scalelab.telemetry import Log, Telemetry
from scalelab.web import create_app, problem_responses
from scalelab.web.auth import require
from scalelab.web.background import Background


class PaymentsSettings(BaseSettings):
    """Environment of the payments process.

    provider_timeout_s: for one try at the provider. provider_deadline_s: for all tries of a call;
    must stay under the consumer's limit for one event. recheck_s: when a tombstone is checked for
    a late charge; recheck_every_s: how often due ones are looked for.
    """

    model_config = SettingsConfigDict(env_prefix="PAYMENTS_", frozen=True)

    host: str = "127.0.0.1"
    port: int = 8085
    database_dsn: str
    kafka_bootstrap: str
    provider_url: str
    jwks_url: str
    token_issuer: str
    token_audience: str
    orders_topic: str = "orders.order"
    payments_topic: str = TOPIC
    consumer_group: str = CONSUMER
    pool_max: Annotated[int, Field(ge=2)] = 10
    provider_timeout_s: Annotated[float, Field(gt=0)] = 2.0
    provider_deadline_s: Annotated[float, Field(gt=0, le=25)] = 8.0
    recheck_s: Annotated[float, Field(ge=0)] = 120.0
    recheck_every_s: Annotated[float, Field(gt=0)] = 10.0
    trace_export: str = "none"
    log_level: str = "info"


def migrate(settings: PaymentsSettings) -> None:
    """Bring the payments database up to date. Blocking. Raises Unavailable."""
    upgrade(settings.database_dsn, Path(__file__).parent / "migrations")


def create(settings: PaymentsSettings, telemetry: Telemetry) -> FastAPI:
    """The payments application; consumer, relay and recheck run for as long as its lifespan."""
    clock = SystemClock()
    database = Database(
        PostgresSettings(settings.database_dsn, pool_max=settings.pool_max),
        name="payments",
        tracer=telemetry.tracer,
    )
    http = _provider(settings, telemetry)
    desk = Desk(
        database=database,
        provider=ProviderClient(http),
        clock=clock,
        consumer=settings.consumer_group,
        topic=settings.payments_topic,
        recheck_s=settings.recheck_s,
    )
    consumer = EventConsumer(
        settings.kafka_bootstrap,
        settings.consumer_group,
        [settings.orders_topic],
        {PLACED: partial(capture, desk), CANCELLED: partial(give_back, desk)},
        telemetry=telemetry,
    )
    background = Background()
    relay_metrics = RelayMetrics(telemetry.registry)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        relay = keep_relaying(
            database,
            settings.kafka_bootstrap,
            client_id="payments.outbox",
            metrics=relay_metrics,
            log=telemetry.log,
        )
        rechecks = _recheck_forever(desk, settings.recheck_every_s, telemetry.log)
        async with database, http, background.running(relay, rechecks), consumer:
            yield

    verifier = TokenVerifier(
        HttpJwks(settings.jwks_url, http_fetch, clock=clock),
        settings.token_issuer,
        settings.token_audience,
        clock,
    )
    return create_app(
        telemetry=telemetry,
        routers=[_router(database, verifier)],
        lifespan=lifespan,
        readiness={
            "database": database.ping,
            "consumer": consumer.ready,
            "background": background.ready,
        },
        title="Payments",
    )


def _provider(settings: PaymentsSettings, telemetry: Telemetry) -> HttpClient:
    return HttpClient(
        settings.provider_url,
        guard=Guard(
            "provider",
            timeout_s=settings.provider_deadline_s,
            breaker=BreakerPolicy(),
            retry=RetryPolicy(attempts=3),
            hooks=[GuardMetrics(telemetry.registry)],
        ),
        timeout_s=settings.provider_timeout_s,
    )


def _router(database: Database, verifier: TokenVerifier) -> APIRouter:
    router = APIRouter(prefix="/internal/v1", dependencies=[Depends(require(verifier, "internal"))])

    @router.get("/payments/{order_id}", responses=problem_responses(404))
    async def payment_of(order_id: UUID) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction] - the decorator registers it
        """What was settled for an order; 404 while nothing is."""
        async with database.autocommit(read_only=True) as conn:
            payment = await store.find(conn, order_id)
        if payment is None:
            raise NotFound(f"nothing is settled for order {order_id}")
        return _view(payment)

    return router


def _view(payment: Payment) -> dict[str, Any]:
    money = payment.money
    return {
        "order_id": str(payment.order_id),
        "payment_id": str(payment.payment_id),
        "status": payment.status.value,
        "amount_minor": None if money is None else money.amount_minor,
        "currency": None if money is None else money.currency,
        "reason": payment.reason,
    }


async def _recheck_forever(desk: Desk, every_s: float, log: Log) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            refunded = await recheck(desk)
        except ScalelabError as error:
            log.warning("recheck_failed", code=error.stable_code, error=error.message)
            continue
        if refunded:
            log.warning("late_charges_refunded", count=refunded)
