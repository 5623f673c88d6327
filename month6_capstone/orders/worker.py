"""The orders worker: what happens to orders when nobody is asking. Wiring only.

Per shard: a relay (outbox to Kafka), the deadline sweeper, the clean-up and, where an admin DSN is
given, the guard of synchronous commit. Over all shards: one consumer of what payments and
inventory say. Any number of workers may run; per shard one relay and one guard are active.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI
from prometheus_client import Counter
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from month2_databases.replication import SyncGuard, SyncMetrics
from month2_databases.sharding import (
    PoolSizes,
    RouterMetrics,
    ShardRouter,
    ShardSettings,
    parse_shards,
)
from month3_messaging.orders import (
    FACTS,
    PAYMENTS_TOPIC,
    STOCK_TOPIC,
    SagaEffects,
    Status,
    clean_forever,
    order_saga,
    sweep_forever,
)
from month3_messaging.outbox import RelayMetrics, keep_relaying
from month3_messaging.workers import EventConsumer
from month6_capstone.orders.shards import map_watch, read_token_keys, sessions_of
from scalelab.clients.postgres import Database
from scalelab.clock import Clock, SystemClock
from scalelab.errors import Unavailable
from scalelab.telemetry import Telemetry
from scalelab.web import create_app


class OrdersWorkerSettings(BaseSettings):
    """Environment of the orders worker.

    shards, map_dsn: as in the orders process. admin_dsns: by shard, a role that may change the
    primary's synchronous_standby_names; a shard without one is not guarded. payment_time_limit_s:
    as in the orders process. inbox_keep_s: longer than the topics keep events. keys_keep_s: how
    long an idempotency key is remembered.
    """

    model_config = SettingsConfigDict(env_prefix="ORDERS_WORKER_", frozen=True)

    host: str = "127.0.0.1"
    port: int = 8084
    shards: str
    map_dsn: str
    consistency_secret_file: Path
    kafka_bootstrap: str
    admin_dsns: dict[str, str] = {}
    consumer_group: str = "orders"
    payments_topic: str = PAYMENTS_TOPIC
    stock_topic: str = STOCK_TOPIC
    pool_max: Annotated[int, Field(ge=2)] = 10
    payment_time_limit_s: Annotated[float, Field(gt=0)] = 600.0
    sweep_every_s: Annotated[float, Field(gt=0)] = 1.0
    clean_every_s: Annotated[float, Field(gt=0)] = 60.0
    inbox_keep_s: Annotated[float, Field(gt=0)] = 14 * 86_400.0
    keys_keep_s: Annotated[float, Field(ge=86_400)] = 2 * 86_400.0
    trace_export: str = "none"
    log_level: str = "info"


def create(settings: OrdersWorkerSettings, telemetry: Telemetry) -> FastAPI:
    """The worker's application: probes and metrics; the work runs in its lifespan."""
    clock = SystemClock()
    shards = parse_shards(settings.shards)
    keeper, maps = map_watch(settings.map_dsn, clock)
    router = ShardRouter(
        shards,
        token_keys=read_token_keys(settings.consistency_secret_file),
        clock=clock,
        tracer=telemetry.tracer,
        pools=PoolSizes(primary_max=settings.pool_max, replica_max=1),
        maps=maps,
        hooks=[RouterMetrics(telemetry.registry)],
    )
    effects = _effects(router, clock, settings, telemetry)
    consumer = EventConsumer(
        settings.kafka_bootstrap,
        settings.consumer_group,
        [settings.payments_topic, settings.stock_topic],
        dict.fromkeys(FACTS, effects.on_event),
        telemetry=telemetry,
    )
    guards = _guards(shards, clock, settings, telemetry)
    chores = Chores(router, effects, clock, settings, telemetry)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        async with AsyncExitStack() as stack:
            for followed in (keeper, maps, router):
                await stack.enter_async_context(followed)
            for guard in guards:
                await stack.enter_async_context(guard)
            await stack.enter_async_context(chores.running())
            await stack.enter_async_context(consumer)
            yield

    return create_app(
        telemetry=telemetry,
        routers=[],
        lifespan=lifespan,
        readiness={"consumer": consumer.ready, "chores": chores.ready},
        title="Orders worker",
    )


def _effects(
    router: ShardRouter, clock: Clock, settings: OrdersWorkerSettings, telemetry: Telemetry
) -> SagaEffects:
    entered = Counter(
        "scalelab_orders_entered",
        "Statuses that orders entered, as applied by this worker.",
        ["status"],
        registry=telemetry.registry,
    )

    def count(status: Status) -> None:
        entered.labels(status.value).inc()

    return SagaEffects(
        definition=order_saga(settings.payment_time_limit_s),
        sessions=sessions_of(router),
        clock=clock,
        consumer=settings.consumer_group,
        entered=count,
    )


def _guards(
    shards: Sequence[ShardSettings],
    clock: Clock,
    settings: OrdersWorkerSettings,
    telemetry: Telemetry,
) -> list[SyncGuard]:
    metrics = SyncMetrics(telemetry.registry)
    return [
        SyncGuard(
            shard.name,
            settings.admin_dsns[shard.name],
            [replica.name for replica in shard.replicas],
            clock=clock,
            hooks=[metrics],
        )
        for shard in shards
        if shard.replicas and shard.name in settings.admin_dsns
    ]


class Chores:
    """The tasks per shard: relay, deadlines, clean-up. One that ends makes the worker unready."""

    def __init__(
        self,
        router: ShardRouter,
        effects: SagaEffects,
        clock: Clock,
        settings: OrdersWorkerSettings,
        telemetry: Telemetry,
    ) -> None:
        self._router = router
        self._effects = effects
        self._clock = clock
        self._settings = settings
        self._telemetry = telemetry
        self._relay_metrics = RelayMetrics(telemetry.registry)
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Start the tasks; cancel them and wait for them at the end."""
        self._tasks = [
            asyncio.create_task(work, name=f"{shard} {work.__name__}")
            for shard, database in self._router.primaries.items()
            for work in self._of_one(shard, database)
        ]
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def ready(self) -> None:
        """Raises Unavailable, naming it, if a task has ended."""
        ended = [task.get_name() for task in self._tasks if task.done()]
        if ended:
            raise Unavailable(f"ended: {', '.join(ended)}", code="background_ended")

    def _of_one(self, shard: str, database: Database) -> list[Coroutine[Any, Any, None]]:
        return [
            keep_relaying(
                database,
                self._settings.kafka_bootstrap,
                client_id=f"orders.outbox.{shard}",
                metrics=self._relay_metrics,
                log=self._telemetry.log,
            ),
            sweep_forever(
                database,
                self._effects,
                every_s=self._settings.sweep_every_s,
                log=self._telemetry.log,
            ),
            clean_forever(
                database,
                self._clock,
                every_s=self._settings.clean_every_s,
                inbox_keep_s=self._settings.inbox_keep_s,
                keys_keep_s=self._settings.keys_keep_s,
                log=self._telemetry.log,
            ),
        ]
