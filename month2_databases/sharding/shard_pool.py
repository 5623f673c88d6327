"""The fast path to one server: single statements, prepared, on cursors that are used again.

A statement costs little more than the driver's own work, so what surrounds it counts. Here a call
takes an idle connection from the top of a stack, runs on the cursor that the connection keeps,
and puts both back: no transaction block, no new cursor, no task. The deadline is one timer.

Guarantees
    G1  A call ends by its deadline: Unavailable, DeadlineExceeded or Overloaded (nothing changed),
        or, for a change that was sent, OutcomeUnknown. StaleShardMap and SlotFenced are the
        shard's own refusal of a slot, and are not held against its server.
    G2  A connection that broke, was cut off or was left in the middle of a statement is not used
        again. One that the server closed while it lay idle is seen before it is used.
    G3  A change whose caller was cancelled is not cancelled on the server: a commit that waits
        for its replica would become visible without it.
    G4  At most `size` connections and `waiting` callers behind them; opened when first needed.
    G5  Who waits in vain for a connection is told why: `pool_exhausted` if all are lent to others,
        `database_unavailable` if none can be had from the server.
"""

from __future__ import annotations

import asyncio
import math
import os
import select
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, Self, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus
from psycopg.sql import SQL, Composed

from month2_databases.sharding.primary_gate import POLICY, PrimaryGate
from month2_databases.sharding.slot_guard import SlotFenced, StaleShardMap, refusal_of
from scalelab.clients.postgres_errors import (
    Stage,
    lost,
    no_connection,
    out_of_time,
    translate,
)
from scalelab.clock import Clock
from scalelab.errors import DeadlineExceeded, OutcomeUnknown, Overloaded, Unavailable

DoneT = TypeVar("DoneT")
Row = tuple[Any, ...]
Statement = LiteralString | bytes | SQL | Composed


@dataclass(frozen=True, slots=True)
class FastSettings:
    """size: connections per server and process. timeout_s: of a call, waiting included; it is also
    the server's limit on a statement, so that one given up here does not run on there.

    waiting: callers that may stand behind the connections. connect_timeout_s: libpq takes whole
    seconds and at least 2.
    """

    size: int = 8
    waiting: int = 512
    timeout_s: float = 5.0
    connect_timeout_s: float = 2.0


class ShardPool:
    """Connections to one server; an async context manager. Entering opens none."""

    def __init__(self, dsn: str, *, name: str, settings: FastSettings, clock: Clock) -> None:
        self.name = name
        self._dsn = dsn
        self._settings = settings
        self._gate = PrimaryGate(name, clock)
        self._idle: list[_Lane] = []
        self._waiters: deque[asyncio.Future[_Lane | None]] = deque()
        self._open = 0
        self._opening = 0
        self._closed = False
        self._watched_until_s = -math.inf

    async def __aenter__(self) -> Self:
        self._closed = False
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._closed = True
        while self._idle:
            await self._idle.pop().conn.close()

    async def fetch(
        self, statement: Statement, params: Sequence[object] = (), *, timeout_s: float | None = None
    ) -> list[Row]:
        """All rows of a statement that only reads: a promise of the caller, not enforced."""
        return await self._call(_read, Stage.READING, statement, params, timeout_s)

    async def execute(
        self, statement: Statement, params: Sequence[object] = (), *, timeout_s: float | None = None
    ) -> tuple[int, list[Row]]:
        """Run one statement that changes something, in a transaction of its own.

        Returns the count of rows it touched and the rows of its RETURNING.
        """
        return await self._call(_change, Stage.WRITING_ALONE, statement, params, timeout_s)

    async def _call(
        self,
        work: Callable[[_Lane, Statement, Sequence[object]], Awaitable[DoneT]],
        stage: Stage,
        statement: Statement,
        params: Sequence[object],
        timeout_s: float | None,
    ) -> DoneT:
        """Work on a connection by the deadline.

        The gate is asked, and told how calls end, only for a while after one has failed: what went
        well before that would not be in its window, and counting it would cost more than routing.
        """
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        gate_pass = self._gate.admit() if now_s < self._watched_until_s else None
        limit_s = self._settings.timeout_s if timeout_s is None else timeout_s
        try:
            lane = self._usable() or await self._acquire(now_s + limit_s)
            watchdog = loop.call_at(now_s + limit_s, lane.cut_off)
            try:
                done = await work(lane, statement, params)
            except psycopg.Error as error:
                if lane.is_cut_off:
                    raise out_of_time(stage, self.name, limit_s) from error
                refused = refusal_of(error)
                raise refused or translate(error, stage=stage, name=self.name) from error
            finally:
                watchdog.cancel()
                self._release(lane)
        except BaseException as error:
            self._ended_badly(gate_pass, error, loop.time())
            raise
        if gate_pass is not None:
            self._gate.settle(gate_pass, None)
        return done

    def _ended_badly(self, gate_pass: int | None, error: BaseException, now_s: float) -> None:
        """Blame the server, unless it answered that the slot is not here or is closed just now."""
        is_refused = isinstance(error, (StaleShardMap, SlotFenced))
        if isinstance(error, (Unavailable, OutcomeUnknown)) and not is_refused:
            self._watched_until_s = now_s + POLICY.window_s
            gate_pass = self._gate.admit() if gate_pass is None else gate_pass
        if gate_pass is not None:
            self._gate.settle(gate_pass, error, blamed=not is_refused)

    def _usable(self) -> _Lane | None:
        """The idle connection used last, which is the one most likely to be alive and cached."""
        while self._idle:
            lane = self._idle.pop()
            if not lane.poll.poll(0):
                return lane
            self._drop(lane)
        return None

    async def _acquire(self, deadline_s: float) -> _Lane:
        """A connection that is opened now, or one that somebody gives back in time."""
        if self._open < self._settings.size:
            return await self._connect(deadline_s)
        if len(self._waiters) >= self._settings.waiting:
            raise Overloaded(
                f"too many callers wait for a connection to {self.name}", code="pool_queue"
            )
        waiter: asyncio.Future[_Lane | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout_at(deadline_s):
                lane = await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():
                self._give_on(waiter.result())
            elif waiter in self._waiters:  # or it was passed over when its turn came
                self._waiters.remove(waiter)
            if isinstance(error, TimeoutError):
                lent = self._open - self._opening - len(self._idle)
                raise no_connection(self.name, lent, self._settings.size) from error
            raise
        return lane if lane is not None else await self._connect(deadline_s)

    async def _connect(self, deadline_s: float) -> _Lane:
        self._open += 1
        self._opening += 1
        try:
            async with asyncio.timeout_at(deadline_s):
                conn = await AsyncConnection[Row].connect(
                    self._dsn,
                    autocommit=True,
                    prepare_threshold=0,
                    connect_timeout=max(2, round(self._settings.connect_timeout_s)),
                    application_name=self.name,
                    options=f"-c statement_timeout={round(self._settings.timeout_s * 1000)}",
                )
        except BaseException as error:
            self._lost_one()
            if isinstance(error, psycopg.Error):
                raise lost(Stage.READING, self.name, str(error)) from error
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded(f"{self.name} took too long to let us in") from error
            raise
        finally:
            self._opening -= 1
        return _Lane(conn)

    def _release(self, lane: _Lane) -> None:
        usable = lane.conn.pgconn.transaction_status == TransactionStatus.IDLE
        if usable and not lane.is_cut_off and not self._closed:
            self._give_on(lane)
        else:
            self._drop(lane)

    def _drop(self, lane: _Lane) -> None:
        lane.close()
        self._lost_one()

    def _lost_one(self) -> None:
        self._open -= 1
        self._give_on(None)

    def _give_on(self, lane: _Lane | None) -> None:
        """To the caller who waits longest; None means: there is room to open one of your own."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(lane)
                return
        if lane is not None:
            self._idle.append(lane)


class _Lane:
    """A connection, its cursor, and a poll object that hears the server hang up."""

    __slots__ = ("conn", "cursor", "is_cut_off", "poll")

    def __init__(self, conn: AsyncConnection[Row]) -> None:
        self.conn = conn
        self.cursor = conn.cursor()
        self.poll = select.poll()
        self.poll.register(conn.fileno(), select.POLLIN | select.POLLHUP)
        self.is_cut_off = False

    def cut_off(self) -> None:
        """End the stream under the driver: whoever waits on it sees a lost connection at once."""
        self.is_cut_off = True
        if self.conn.closed:
            return
        with socket.socket(fileno=os.dup(self.conn.fileno())) as same_stream:
            try:
                same_stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    def close(self) -> None:
        """Let the server go, without waiting for it."""
        self.conn.pgconn.finish()


async def _read(lane: _Lane, statement: Statement, params: Sequence[object]) -> list[Row]:
    cursor = lane.cursor
    await cursor.execute(statement, params)
    return await cursor.fetchall()


async def _change(
    lane: _Lane, statement: Statement, params: Sequence[object]
) -> tuple[int, list[Row]]:
    cursor = lane.cursor
    sending = asyncio.ensure_future(cursor.execute(statement, params))
    try:
        await asyncio.shield(sending)
    except asyncio.CancelledError:
        lane.cut_off()
        await asyncio.wait([sending])
        sending.exception()
        raise
    rows = await cursor.fetchall() if cursor.description else []
    return cursor.rowcount, rows
