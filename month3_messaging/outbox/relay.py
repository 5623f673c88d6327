"""The polling relay: carries committed outbox rows to Kafka, in order per key, at least once.

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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from month3_messaging.crash_points import pass_by
from month3_messaging.outbox.carrier import Carrier
from month3_messaging.outbox.leadership import lead
from month3_messaging.outbox.metrics import RelayMetrics
from month3_messaging.outbox.table import CHANNEL, count_unsent, purge_sent, read_unsent
from scalelab.clients.kafka import Producer
from scalelab.clients.postgres import Database
from scalelab.telemetry import Log


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """How a relay paces itself.

    batch: rows read at once. waves_max: rows of one key per batch, so that a hot key cannot hold up
    the others for long. poll_s: longest sleep without a notification. gather_s: from a notification
    to the read; the price of a batch, paid in publish lag. standby_s: between attempts
    to become the active relay, and after a lost connection. backoff_s: first and longest pause
    after a failed send. sql_timeout_s: for one statement, seen from here. keep_sent_s: how long
    sent rows stay. housekeeping_s: between counts of the backlog and clean-ups. purge_max: rows
    deleted in one clean-up; it is repeated at once while there are more.
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
    purge_max: int = 1000


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of one batch. read >= sent + failed; the rest waits behind a failure."""

    read: int
    sent: int
    failed: int


class Housekeeping:
    """Counts the backlog and deletes what was sent long ago, when it is due."""

    def __init__(self, database: str, metrics: RelayMetrics, settings: RelaySettings) -> None:
        self._settings = settings
        self._unsent = metrics.unsent.labels(database)
        self._next_s = 0.0

    async def when_due(self, conn: AsyncConnection[Any], now_s: float) -> bool:
        """Whether it was due at `now_s` (monotonic) and is done.

        One bounded DELETE a turn; while it finds as much as it may take, the next turn is due.
        """
        if now_s < self._next_s:
            return False
        async with asyncio.timeout(self._settings.sql_timeout_s):
            self._unsent.set(await count_unsent(conn))
            purged = await purge_sent(
                conn, older_than_s=self._settings.keep_sent_s, limit=self._settings.purge_max
            )
        is_full = purged >= self._settings.purge_max
        self._next_s = now_s + (0.0 if is_full else self._settings.housekeeping_s)
        return True


class Relay:
    """One polling relay of one database. `run` it in a task; cancel the task to stop it.

    reached: called with the name of each crash point (crash_points.py) as it is passed; for fault
    tests.
    """

    def __init__(
        self,
        database: Database,
        producer: Producer,
        *,
        metrics: RelayMetrics,
        log: Log,
        settings: RelaySettings | None = None,
        reached: Callable[[str], None] = pass_by,
    ) -> None:
        self._database = database
        self._settings = settings or RelaySettings()
        self._metrics = metrics
        self._log = log
        self.carrier = Carrier(
            database.name,
            producer,
            metrics=metrics,
            log=log,
            sql_timeout_s=self._settings.sql_timeout_s,
            reached=reached,
        )
        self._house = Housekeeping(database.name, metrics, self._settings)

    async def run(self) -> None:
        """Serve until cancelled; waits for the database and for Kafka when they are away.

        Raises the producer's error if this producer can never send again; use `keep_relaying` to
        start over with another. Cancelling between send and mark leaves rows that are sent again
        by whoever comes next.
        """
        await lead(
            self._database,
            self.serve,
            standby_s=self._settings.standby_s,
            sql_timeout_s=self._settings.sql_timeout_s,
            metrics=self._metrics,
            log=self._log,
        )

    async def serve(self, conn: AsyncConnection[Any], *, until_s: float = float("inf")) -> None:
        """Carry what is there and what comes, until the loop's clock shows `until_s`."""
        async with asyncio.timeout(self._settings.sql_timeout_s):
            await conn.execute(f"LISTEN {CHANNEL}")
        loop = asyncio.get_running_loop()
        backoff_s = self._settings.backoff_s[0]
        while loop.time() < until_s:
            batch = await self.carry_once(conn)
            await self._house.when_due(conn, loop.time())
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
        carried = await self.carrier.carry(conn, rows, waves_max=self._settings.waves_max)
        return Batch(len(rows), carried.sent, len(carried.blocked))

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
