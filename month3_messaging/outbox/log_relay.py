"""The log relay: change data capture. Outbox rows are read off the write-ahead log, not the table.

Theory of operation
    The active relay (leadership.py) makes sure of a publication and a slot, sends whatever the
    table holds unsent, and then follows the slot: the server pushes each committed insert, in
    commit order, within milliseconds. A batch is sent in waves, marked in the table, and confirmed
    to the slot.

    The table stays the truth and the log is the quick way to it. Every new reader begins with the
    table, so a slot that was lost, dropped over its cap, or never came along to the new primary
    after a failover costs speed and no event: `slot → table → log`. The slot is made *before* the
    table is read; what commits in between is found in both.

    Each batch is looked up in the table before it is sent. That drops what another relay has sent,
    and holds back what is not certain: a commit that waits for its replica is in the log, and here,
    before anybody may see it, and a failover may still undo it.

Guarantees
    R1, R2, R3 of relay.py, and
    L1  The log is confirmed whether rows could be sent or not, for those that could not wait in
        the table: an outage of Kafka never makes the slot hold the log back.
    L2  Without a slot this is a polling relay; it asks for one again every `slot_retry_s`.
    L3  After a failure, and while a row is uncertain, rows go the way of the table, by id, until
        nothing is unsent there: what could not be sent is never overtaken in its lane.
    L4  Nothing is sent that the table does not show as committed.

Beyond the lab this is Debezium's outbox event router on Kafka Connect: the same slot and the same
table, with connectors that are watched and restarted by a cluster of workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from psycopg import AsyncConnection

from month3_messaging.crash_points import CrashPoint, pass_by
from month3_messaging.outbox.capture import Capture, Captured
from month3_messaging.outbox.leadership import lead
from month3_messaging.outbox.metrics import RelayMetrics, SlotMetrics
from month3_messaging.outbox.relay import Housekeeping, Relay, RelaySettings
from month3_messaging.outbox.slot import SlotLimits, check_name, is_given_up, judge
from month3_messaging.outbox.slot_postgres import (
    SlotPlace,
    drop_slot,
    look_at_slot,
    make_slot,
    note_confirmed,
)
from month3_messaging.outbox.table import is_left_behind, look_up
from scalelab.clients.change_stream import ChangeStream, SlotLost
from scalelab.clients.kafka import Producer
from scalelab.clients.pgoutput import decode
from scalelab.clients.postgres import Database
from scalelab.errors import OutcomeUnknown, Unavailable
from scalelab.telemetry import Log

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LogRelaySettings:
    """How a relay treats its slot.

    slot_retry_s: between attempts to get a slot, in which the table is polled. slot_wait_s: for
    one attempt, in which nothing is sent. limits: of the slot. stream_gather_s: how long a batch
    may go on growing after its first row. patience_s: for one batch to be sent, after which the
    log is read on without it. uncertain_max_s: how long a row is watched that is in
    the log and not in the table.
    """

    slot_retry_s: float = 5.0
    slot_wait_s: float = 1.0
    limits: SlotLimits = field(default_factory=SlotLimits)
    stream_gather_s: float = 0.005
    patience_s: float = 0.5
    uncertain_max_s: float = 60.0


class LogRelay:
    """One relay of one database that follows its log. `run` it in a task; cancel it to stop.

    place: the slot; several relays of a database share it. reached: as for `Relay`.
    """

    def __init__(
        self,
        database: Database,
        producer: Producer,
        place: SlotPlace,
        *,
        metrics: RelayMetrics,
        slot_metrics: SlotMetrics,
        log: Log,
        settings: RelaySettings | None = None,
        log_settings: LogRelaySettings | None = None,
        reached: Callable[[str], None] = pass_by,
    ) -> None:
        check_name(place.name)
        self._database = database
        self._place = place
        self._settings = settings or RelaySettings()
        self._log_settings = log_settings or LogRelaySettings()
        self._metrics = metrics
        self._log = log
        self._reached = reached
        self._table = Relay(
            database, producer, metrics=metrics, log=log, settings=self._settings, reached=reached
        )
        self._house = Housekeeping(database.name, metrics, self._settings)
        self._kept = slot_metrics.kept.labels(database.name)
        self._age = slot_metrics.age.labels(database.name)
        self._lost = slot_metrics.lost.labels(database.name)
        self._following = slot_metrics.following.labels(database.name)

    async def run(self) -> None:
        """Serve until cancelled, as `Relay.run`."""
        await lead(
            self._database,
            self._serve,
            stand_by=self._look,
            standby_s=self._settings.standby_s,
            sql_timeout_s=self._settings.sql_timeout_s,
            metrics=self._metrics,
            log=self._log,
        )

    async def _serve(self, conn: AsyncConnection[Any]) -> None:
        """As the active relay: follow the log; poll the table while there is none to follow."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._follow_slot(conn)
            except SlotLost as error:
                self._lost.inc()
                self._log.warning("outbox_slot_lost", slot=self._place.name, error=str(error))
                await self._within(drop_slot(conn, self._place))
                continue
            except (Unavailable, OutcomeUnknown) as error:
                self._log.warning("outbox_log_unread", slot=self._place.name, error=str(error))
            finally:
                self._following.set(0)
            # If it is the database that is away, this ends the leadership.
            await self._table.serve(conn, until_s=loop.time() + self._log_settings.slot_retry_s)

    async def _follow_slot(self, conn: AsyncConnection[Any]) -> None:
        await self._look(conn)
        is_new = await self._within(
            make_slot(conn, self._place, wait_s=self._log_settings.slot_wait_s)
        )
        if is_new:
            self._log.info("outbox_slot_made", slot=self._place.name, owner=self._place.owner)
        self._reached(CrashPoint.OUTBOX_SLOT_MADE)
        await self._within(conn.execute("UNLISTEN *"))
        is_clear = await self._sweep(conn)
        self._reached(CrashPoint.OUTBOX_SWEPT)
        async with ChangeStream(self._place.dsn, self._place.name, after_lsn=0) as stream:
            self._following.set(1)
            reader = LogReader(stream, self._settings.batch, self._log_settings.stream_gather_s)
            await self._follow(conn, reader, is_clear=is_clear)

    async def _follow(
        self, conn: AsyncConnection[Any], reader: LogReader, *, is_clear: bool
    ) -> None:
        """Send what the log brings while the table `is_clear`: else the log only wakes, and rows
        go the way of the table until nothing is unsent there (L3)."""
        loop = asyncio.get_running_loop()
        backoff_s = self._settings.backoff_s[0]
        uncertain = _Uncertain(self._log_settings.uncertain_max_s)
        while True:
            captured = await reader.read(self._settings.poll_s if is_clear else backoff_s)
            async with asyncio.timeout(self._settings.sql_timeout_s):
                seen = await look_up(conn, [row.id for row in captured.rows])
            uncertain.add((row.id for row in captured.rows if row.id not in seen), loop.time())
            is_clear = is_clear and not uncertain.ids
            rows = [row for row in captured.rows if not seen.get(row.id, True)]
            if rows and is_clear:
                sending = self._table.carrier.carry(conn, rows)
                carried, let_go = await self._meanwhile(reader, sending)
                is_clear = not carried.blocked and not let_go
            reader.confirm(captured.end_lsn)
            if rows:
                self._reached(CrashPoint.OUTBOX_CONFIRMED)
            if not is_clear:
                is_swept, let_go = await self._meanwhile(reader, self._sweep(conn))
                async with asyncio.timeout(self._settings.sql_timeout_s):
                    uncertain.settle(await look_up(conn, uncertain.ids), loop.time())
                is_clear = is_swept and not let_go and not uncertain.ids
                longest_s = self._settings.backoff_s[1]
                backoff_s = (
                    self._settings.backoff_s[0] if is_clear else min(backoff_s * 2, longest_s)
                )
            if await self._house.when_due(conn, loop.time()):
                await self._within(note_confirmed(conn, self._place))
                await self._look(conn)
                is_clear = is_clear and not await self._within(
                    is_left_behind(conn, older_than_s=self._settings.housekeeping_s)
                )

    async def _sweep(self, conn: AsyncConnection[Any]) -> bool:
        """Send what the table holds unsent; whether nothing is left of it."""
        while True:
            batch = await self._table.carry_once(conn)
            if batch.failed:
                return False
            if batch.sent == batch.read < self._settings.batch:
                return True

    async def _meanwhile(self, reader: LogReader, work: Coroutine[Any, Any, T]) -> tuple[T, bool]:
        """What `work` returns, and whether rows were let go because it took long.

        Sending takes as long as Kafka is away. The log is read on and confirmed (L1): what is let
        go here waits in the table.
        """
        task = asyncio.create_task(work)
        has_let_go = False
        try:
            await asyncio.wait([task], timeout=self._log_settings.patience_s)
            while not task.done():
                captured = await reader.read(self._log_settings.patience_s)
                has_let_go = has_let_go or bool(captured.rows)
                reader.confirm(captured.end_lsn)
            return task.result(), has_let_go
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    async def _look(self, conn: AsyncConnection[Any]) -> None:
        """Measure the slot, tell its owner of troubles, and give it up where it must be.

        The active relay and the waiting ones all look: the one that reads may be frozen.
        """
        state = await self._within(look_at_slot(conn, self._place))
        if state is None:
            return
        self._kept.set(state.kept_bytes)
        self._age.set(state.age_s)
        alerts = judge(state, self._log_settings.limits)
        for alert in alerts:
            self._log.warning(
                "outbox_slot_alert",
                slot=alert.slot,
                owner=alert.owner,
                trouble=alert.trouble.value,
                advice=alert.advice,
            )
        if is_given_up(alerts):
            await self._within(drop_slot(conn, self._place))
            self._lost.inc()

    async def _within(self, work: Awaitable[T]) -> T:
        async with asyncio.timeout(self._settings.sql_timeout_s):
            return await work


class LogReader:
    """Batches off a change stream. batch: rows; gather_s: how long one may grow after its first."""

    def __init__(self, stream: ChangeStream, batch: int, gather_s: float) -> None:
        self._stream = stream
        self._batch = batch
        self._gather_s = gather_s
        self._capture = Capture()

    async def read(self, longest_s: float) -> Captured:
        """Rows of whole transactions; none if `longest_s` pass without one."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + longest_s
        while len(self._capture) < self._batch:
            data = await self._stream.read(timeout_s=max(0.0, deadline_s - loop.time()))
            if data is None:
                break
            was_empty = not self._capture
            self._capture.add(decode(data))
            if was_empty and self._capture:
                deadline_s = loop.time() + self._gather_s
        else:
            return self._capture.take()
        captured = self._capture.take()
        if captured.rows or not self._capture.is_between:
            return captured
        return Captured([], max(captured.end_lsn, self._stream.idle_lsn))

    def confirm(self, lsn: int) -> None:
        """What was given out up to `lsn` is dealt with."""
        self._stream.confirm(lsn)


class _Uncertain:
    """Rows that the log has and the table does not show.

    Their commits wait for a replica, so they may yet be lost; or they were sent and deleted long
    ago. They are watched until they show, or `longest_s` have passed.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._since_s: dict[int, float] = {}

    @property
    def ids(self) -> list[int]:
        return list(self._since_s)

    def add(self, ids: Iterable[int], now_s: float) -> None:
        for row_id in ids:
            self._since_s.setdefault(row_id, now_s)

    def settle(self, shown: Mapping[int, bool], now_s: float) -> None:
        self._since_s = {
            row_id: since_s
            for row_id, since_s in self._since_s.items()
            if row_id not in shown and now_s - since_s < self._longest_s
        }
