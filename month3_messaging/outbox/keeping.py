"""Keep a relay running: open a producer, relay on it, and begin anew with another when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from month3_messaging.crash_points import pass_by
from month3_messaging.outbox.log_relay import LogRelay, LogRelaySettings
from month3_messaging.outbox.metrics import RelayMetrics, SlotMetrics
from month3_messaging.outbox.relay import Relay, RelaySettings
from month3_messaging.outbox.slot_postgres import SlotPlace
from scalelab.clients.kafka import Producer, open_producer
from scalelab.clients.postgres import Database
from scalelab.errors import ScalelabError
from scalelab.telemetry import Log


@dataclass(frozen=True, slots=True)
class FollowLog:
    """What makes a relay follow the log instead of polling the table."""

    place: SlotPlace
    metrics: SlotMetrics
    settings: LogRelaySettings = field(default_factory=LogRelaySettings)


async def keep_relaying(
    database: Database,
    bootstrap: str,
    *,
    client_id: str,
    metrics: RelayMetrics,
    log: Log,
    settings: RelaySettings | None = None,
    follow: FollowLog | None = None,
    reached: Callable[[str], None] = pass_by,
) -> None:
    """Open a producer and run a relay on it until cancelled; start over when Kafka is lost.

    follow: a `LogRelay` on that slot; without it a polling `Relay`. Never fails because Kafka or
    the database is away, at the start or later. A producer whose error cannot be retried is
    replaced by a new one.
    """
    settings = settings or RelaySettings()

    def relay_on(producer: Producer) -> Relay | LogRelay:
        if follow is None:
            return Relay(
                database, producer, metrics=metrics, log=log, settings=settings, reached=reached
            )
        return LogRelay(
            database,
            producer,
            follow.place,
            metrics=metrics,
            slot_metrics=follow.metrics,
            log=log,
            settings=settings,
            log_settings=follow.settings,
            reached=reached,
        )

    while True:
        try:
            async with open_producer(bootstrap, client_id) as producer:
                await relay_on(producer).run()
        except ScalelabError as error:
            log.warning(
                "outbox_kafka_lost",
                database=database.name,
                code=error.stable_code,
                error=str(error),
            )
        await asyncio.sleep(settings.standby_s)
