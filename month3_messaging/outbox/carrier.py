"""The carrier: hands rows to Kafka in waves and marks those that were acknowledged.

What both relays share. Where the rows come from is theirs; how a row becomes a record, in which
order, and when it counts as sent stands here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from month3_messaging.crash_points import CrashPoint, pass_by
from month3_messaging.outbox.metrics import RelayMetrics
from month3_messaging.outbox.table import Row, mark_sent
from month3_messaging.outbox.waves import Lane, cut_into_waves, lane_of, sendable
from scalelab.clients.kafka import Message, Position, Producer, map_errors
from scalelab.errors import ScalelabError, TooLarge
from scalelab.telemetry import Log


@dataclass(frozen=True, slots=True)
class Carried:
    """What became of some rows. sent: acknowledged and marked. blocked: lanes with a failure."""

    sent: int
    blocked: frozenset[Lane]


class Carrier:
    """Carries rows of one database. sql_timeout_s: for the statement that marks."""

    def __init__(
        self,
        database: str,
        producer: Producer,
        *,
        metrics: RelayMetrics,
        log: Log,
        sql_timeout_s: float,
        reached: Callable[[str], None] = pass_by,
    ) -> None:
        self._database = database
        self._producer = producer
        self._log = log
        self._sql_timeout_s = sql_timeout_s
        self._reached = reached
        self._sent = metrics.sent.labels(database)
        self._failed = metrics.failed.labels(database)
        self._lag = metrics.lag.labels(database)

    async def carry(
        self,
        conn: AsyncConnection[Any],
        rows: Sequence[Row],
        *,
        waves_max: int | None = None,
        blocked: AbstractSet[Lane] = frozenset(),
    ) -> Carried:
        """Send `rows` wave by wave, at most `waves_max` of them, and mark what was acknowledged.

        blocked: lanes of which nothing may be sent, because a row before these was not.
        Raises the producer's error if no later send on it can succeed.
        """
        self._reached(CrashPoint.OUTBOX_READ)
        acknowledged: list[int] = []
        stopped = set(blocked)
        for wave in cut_into_waves(rows)[:waves_max]:
            positions = sendable(wave, rows, stopped)
            errors = await self._send([rows[at] for at in positions])
            for position, error in zip(positions, errors, strict=True):
                if error is None:
                    acknowledged.append(rows[position].id)
                else:
                    stopped.add(lane_of(rows[position]))
                    self._report(rows[position], error)
            self._reached(CrashPoint.OUTBOX_WAVE_SENT)
        self._reached(CrashPoint.OUTBOX_SENT)
        if acknowledged:
            async with asyncio.timeout(self._sql_timeout_s):
                lags_s = await mark_sent(conn, acknowledged)
            for lag_s in lags_s:
                self._lag.observe(lag_s)
            self._sent.inc(len(lags_s))
        self._reached(CrashPoint.OUTBOX_MARKED)
        self._failed.inc(len(stopped) - len(blocked))
        return Carried(len(acknowledged), frozenset(stopped))

    async def _send(self, rows: Sequence[Row]) -> list[Exception | None]:
        """Send one wave, all rows together; the producer's own deadline bounds the wait."""
        acks: list[asyncio.Future[Position] | Exception] = []
        for row in rows:
            try:
                message = Message(row.topic, row.key, row.value, row.headers)
                acks.append(await self._producer.enqueue(message))
            except ScalelabError as error:
                acks.append(error)
        pending = [ack for ack in acks if not isinstance(ack, Exception)]
        if pending:
            await asyncio.wait(pending)
        return [ack if isinstance(ack, Exception) else _failure_of(ack) for ack in acks]

    def _report(self, row: Row, error: Exception) -> None:
        """Log a failed send; raise what no later send on this producer can get over."""
        if not isinstance(error, ScalelabError) or not (
            error.retryable or isinstance(error, TooLarge)
        ):
            raise error
        self._log.warning(
            "outbox_send_failed",
            database=self._database,
            topic=row.topic,
            code=error.stable_code,
            error=str(error),
        )


def _failure_of(ack: asyncio.Future[Position]) -> Exception | None:
    try:
        with map_errors():
            ack.result()
    except ScalelabError as error:
        return error
    return None
