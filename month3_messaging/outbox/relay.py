"""The relay: carries committed outbox rows to Kafka, in order per key, at least once.

Theory of operation
    A relay holds one connection of its own. On it, it takes a session advisory lock; who holds the
    lock is the active relay of the database, the others ask again every `standby_s`. The active
    one reads the oldest unsent rows, sends them in waves (see waves.py), marks the acknowledged
    ones with one UPDATE, and repeats until nothing is left. Then it sleeps until a notification or
    `poll_s`, whichever comes first: notifications make it fast, the poll makes it certain. Woken,
    it gathers for `gather_s`, because a row in company costs a fraction of a row alone: one read,
    one request to the broker and one UPDATE for all of them.

Guarantees
    R1  Every committed row is sent at least once: a row is marked only after the broker
        acknowledged it, and unmarked rows are read again for ever.
    R2  The first copies of a key's events stand on the topic in commit order. Ids ascend in commit
        order within a key (table.py, O2) and a row is sent only after its predecessor in the key
        was acknowledged (waves.py, W1).
    R3  A crash between send and mark makes duplicates, nothing else. Consumers keep an inbox.

    R2 does not need the lock. A relay that lost it without noticing (frozen, or cut off from the
    database) and one that took over can both be sending: each still sends only successors of
    acknowledged rows. The lock saves duplicates; it is not what correctness rests on.

When Kafka is away rows pile up in the table and leave in order when it is back: callers of
`append` notice nothing. When the database is away nothing can be appended either.

Absent on purpose: claiming rows with SKIP LOCKED. Two relays that share a backlog could hold
neighbouring events of one key, and the later one could overtake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from month3_messaging.outbox.metrics import RelayMetrics
from month3_messaging.outbox.table import (
    CHANNEL,
    Row,
    count_unsent,
    mark_sent,
    purge_sent,
    read_unsent,
)
from month3_messaging.outbox.waves import Lane, cut_into_waves, lane_of, sendable
from scalelab.clients.kafka import Producer, open_producer
from scalelab.clients.postgres import Database
from scalelab.errors import OutcomeUnknown, ScalelabError, TooLarge, Unavailable
from scalelab.telemetry import Log

_LOCK_CLASS = 0x0B0D
_LOCK_ID = 1


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """How a relay paces itself.

    batch: rows read at once. waves_max: rows of one key per batch, so that a hot key cannot hold up
    the others for long. poll_s: longest sleep without a notification. gather_s: from a notification
    to the read; the price of a batch, paid in publish lag. standby_s: between attempts
    to become the active relay, and after a lost connection. backoff_s: first and longest pause
    after a failed send. sql_timeout_s: for one statement, seen from here. keep_sent_s: how long
    sent rows stay. housekeeping_s: between counts of the backlog and clean-ups.
    """

    batch: int = 500
    waves_max: int = 8
    poll_s: float = 1.0
    gather_s: float = 0.015
    standby_s: float = 1.0
    backoff_s: tuple[float, float] = (0.1, 2.0)
    sql_timeout_s: float = 10.0
    keep_sent_s: float = 86_400.0
    housekeeping_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of one batch. read >= sent + failed; the rest waits behind a failure."""

    read: int
    sent: int
    failed: int


def _nothing(_point: str) -> None:
    return


class Relay:
    """One relay of one database. `run` it in a task; cancel the task to stop it.

    reached: called with the name of each crash point ("outbox.read", "outbox.sent",
    "outbox.marked") as it is passed; for fault tests.
    """

    def __init__(
        self,
        database: Database,
        producer: Producer,
        *,
        metrics: RelayMetrics,
        log: Log,
        settings: RelaySettings | None = None,
        reached: Callable[[str], None] = _nothing,
    ) -> None:
        self._database = database
        self._producer = producer
        self._settings = settings or RelaySettings()
        self._log = log
        self._reached = reached
        name = database.name
        self._sent = metrics.sent.labels(name)
        self._failed = metrics.failed.labels(name)
        self._lag = metrics.lag.labels(name)
        self._unsent = metrics.unsent.labels(name)
        self._leading = metrics.leading.labels(name)

    async def run(self) -> None:
        """Serve until cancelled; waits for the database and for Kafka when they are away.

        Raises the producer's error if this producer can never send again; use `keep_relaying` to
        start over with another. Cancelling between send and mark leaves rows that are sent again
        by whoever comes next.
        """
        while True:
            try:
                async with self._database.dedicated() as conn:
                    await self._lead(conn)
            except (Unavailable, OutcomeUnknown, TimeoutError) as error:
                self._log.warning(
                    "outbox_database_lost", database=self._database.name, error=str(error)
                )
            finally:
                self._leading.set(0)
            await asyncio.sleep(self._settings.standby_s)

    async def _lead(self, conn: AsyncConnection[Any]) -> None:
        """Serve as the active relay until the connection breaks; return if another one is."""
        async with asyncio.timeout(self._settings.sql_timeout_s):
            cursor = await conn.execute(
                "SELECT pg_try_advisory_lock(%s, %s)", (_LOCK_CLASS, _LOCK_ID)
            )
            row = await cursor.fetchone()
            if row is None or not row[0]:
                return
            await conn.execute(f"LISTEN {CHANNEL}")
            # A lost mark only makes a duplicate, so it need not wait for a replica.
            await conn.execute("SET synchronous_commit TO local")
        self._leading.set(1)
        self._log.info("outbox_relay_active", database=self._database.name)
        loop = asyncio.get_running_loop()
        backoff_s = self._settings.backoff_s[0]
        next_housekeeping_s = loop.time()
        while True:
            batch = await self.carry_once(conn)
            if loop.time() >= next_housekeeping_s:
                await self._keep_house(conn)
                next_housekeeping_s = loop.time() + self._settings.housekeeping_s
            if batch.failed:
                # A new event cuts the pause short: a lane that cannot be sent must not slow
                # down the others.
                await self._wait(conn, backoff_s)
                backoff_s = min(backoff_s * 2, self._settings.backoff_s[1])
                continue
            backoff_s = self._settings.backoff_s[0]
            if batch.sent == batch.read < self._settings.batch:
                await self._wait(conn, self._settings.poll_s)

    async def carry_once(self, conn: AsyncConnection[Any]) -> Batch:
        """Read one batch, send it in waves, mark what was acknowledged.

        `run` calls it as the active relay; calling it without the lock costs duplicates only.
        """
        async with asyncio.timeout(self._settings.sql_timeout_s):
            rows = await read_unsent(conn, self._settings.batch)
        if not rows:
            return Batch(0, 0, 0)
        self._reached("outbox.read")
        acknowledged: list[int] = []
        blocked: set[Lane] = set()
        for wave in cut_into_waves(rows)[: self._settings.waves_max]:
            positions = sendable(wave, rows, blocked)
            for position, error in await self._send([rows[at] for at in positions], positions):
                if error is None:
                    acknowledged.append(rows[position].id)
                else:
                    blocked.add(lane_of(rows[position]))
                    self._report(rows[position], error)
        self._reached("outbox.sent")
        if acknowledged:
            async with asyncio.timeout(self._settings.sql_timeout_s):
                lags_s = await mark_sent(conn, acknowledged)
            for lag_s in lags_s:
                self._lag.observe(lag_s)
            self._sent.inc(len(lags_s))
        self._reached("outbox.marked")
        self._failed.inc(len(blocked))
        return Batch(len(rows), len(acknowledged), len(blocked))

    async def _send(
        self, rows: Sequence[Row], positions: Sequence[int]
    ) -> list[tuple[int, Exception | None]]:
        """Send one wave, all rows together; the producer's own deadline bounds the wait."""
        results = await asyncio.gather(
            *(self._send_one(row) for row in rows), return_exceptions=True
        )
        outcome: list[tuple[int, Exception | None]] = []
        for position, result in zip(positions, results, strict=True):
            if isinstance(result, BaseException) and not isinstance(result, Exception):
                raise result
            outcome.append((position, result))
        return outcome

    async def _send_one(self, row: Row) -> None:
        await self._producer.send(row.topic, row.key, row.value, row.headers)

    def _report(self, row: Row, error: Exception) -> None:
        """Log a failed send; raise what no later send on this producer can get over."""
        if not isinstance(error, ScalelabError) or not (
            error.retryable or isinstance(error, TooLarge)
        ):
            raise error
        self._log.warning(
            "outbox_send_failed",
            database=self._database.name,
            topic=row.topic,
            code=error.stable_code,
            error=str(error),
        )

    async def _keep_house(self, conn: AsyncConnection[Any]) -> None:
        async with asyncio.timeout(self._settings.sql_timeout_s):
            self._unsent.set(await count_unsent(conn))
            await purge_sent(conn, older_than_s=self._settings.keep_sent_s)

    async def _wait(self, conn: AsyncConnection[Any], longest_s: float) -> None:
        is_woken = False
        async for _ in conn.notifies(timeout=longest_s, stop_after=1):
            is_woken = True
        if not is_woken:
            return
        await asyncio.sleep(self._settings.gather_s)
        # Rows are committed before their notification: the next read will find all of these.
        async for _ in conn.notifies(timeout=0):
            pass


async def keep_relaying(
    database: Database,
    bootstrap: str,
    *,
    client_id: str,
    metrics: RelayMetrics,
    log: Log,
    settings: RelaySettings | None = None,
) -> None:
    """Open a producer and run a `Relay` on it until cancelled; start over when Kafka is lost.

    Never fails because Kafka or the database is away, at the start or later. A producer whose
    error cannot be retried is replaced by a new one.
    """
    settings = settings or RelaySettings()
    while True:
        try:
            async with open_producer(bootstrap, client_id) as producer:
                relay = Relay(database, producer, metrics=metrics, log=log, settings=settings)
                await relay.run()
        except ScalelabError as error:
            log.warning(
                "outbox_kafka_lost",
                database=database.name,
                code=error.stable_code,
                error=str(error),
            )
        await asyncio.sleep(settings.standby_s)
