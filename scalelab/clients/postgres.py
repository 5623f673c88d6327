"""PostgreSQL: a pool, transactions with a deadline, and honest errors.

Two ways to borrow a connection, because they cost differently: `autocommit()` sends a statement
and nothing else (half the work of a transaction block for a single read), `transaction()` wraps
the block in BEGIN and COMMIT and rolls back on any error. Connections are in autocommit mode and
prepare a statement when they see it for the second time.

Deadlines
    The server cuts a single statement off (`statement_timeout_s`). The client cuts the whole
    unit of work off (`timeout_s`) by shutting the socket down, for the case that the server does
    not answer at all. It sends no cancel request on purpose: cancelling a COMMIT that waits for
    its replica makes it visible without the replica, and a retry would then acknowledge it.
    A client that is frozen cuts nothing off: the server ends a session whose transaction is idle
    for `transaction_timeout_s`, so that its locks do not outlive the deadline it would have kept.

Guarantees
    G1  Opening never fails because the server is away; the first use says Unavailable.
    G2  A block that raises leaves nothing behind on the server.
    G3  A connection that broke in COMMIT raises OutcomeUnknown, never Unavailable.
    G4  A statement that failed inside the block and was swallowed there cannot turn COMMIT
        into a silent ROLLBACK: it raises InvariantBroken.
    G5  Who waits in vain for a connection is told why: `pool_exhausted` if all of them are lent to
        others of this process, `database_unavailable` if none can be had from the server.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Self

import psycopg
import psycopg_pool
from opentelemetry.trace import SpanKind, Tracer, get_current_span
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus

from scalelab.clients.postgres_errors import Stage, lost, no_connection, out_of_time, translate
from scalelab.errors import InvariantBroken

_POSITION_SQL = (
    "COMMIT; SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint,"
    " ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint"
)


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """How to reach one database.

    pool_max: connections, the sum over processes must stay under the server's max_connections.
    acquire_timeout_s: wait for a free connection. statement_timeout_s: enforced by the server.
    transaction_timeout_s: default client-side deadline of a whole block. pool_waiting: callers.
    is_read_only: the server refuses writes on every connection of this pool, without a BEGIN.
    through_pooler: a pooler in transaction mode stands between. It gives each transaction to
    another session, so nothing may be kept in one: no prepared statements, no session settings.
    Time-outs and read-only then belong to the role (`ALTER ROLE … SET`) or to each transaction.
    """

    dsn: str
    pool_min: int = 1
    pool_max: int = 8
    acquire_timeout_s: float = 2.0
    connect_timeout_s: float = 2.0
    statement_timeout_s: float = 5.0
    transaction_timeout_s: float = 15.0
    pool_waiting: int = 512
    is_read_only: bool = False
    through_pooler: bool = False


@dataclass(slots=True)
class CommitPosition:
    """Filled by `Database.transaction(position=...)` once COMMIT has returned.

    lsn: bytes in the write-ahead log, at or after the commit record. timeline: of that log.
    """

    lsn: int | None = None
    timeline: int | None = None


class Database:
    """One pooled database; an async context manager. `name` appears in errors and spans."""

    def __init__(
        self, settings: PostgresSettings, *, name: str, tracer: Tracer | None = None
    ) -> None:
        self.name = name
        self._settings = settings
        self._tracer = tracer
        self._lent = 0
        self._pool = psycopg_pool.AsyncConnectionPool[AsyncConnection](
            settings.dsn,
            kwargs=_connect_arguments(settings, name),
            min_size=settings.pool_min,
            max_size=settings.pool_max,
            max_waiting=settings.pool_waiting,
            timeout=settings.acquire_timeout_s,
            reconnect_timeout=settings.acquire_timeout_s,
            name=name,
            open=False,
        )

    async def __aenter__(self) -> Self:
        await self._pool.open(wait=False)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._pool.close(timeout=self._settings.connect_timeout_s)

    @asynccontextmanager
    async def transaction(
        self,
        *,
        read_only: bool = False,
        timeout_s: float | None = None,
        position: CommitPosition | None = None,
    ) -> AsyncGenerator[AsyncConnection, None]:
        """BEGIN, the block, COMMIT; ROLLBACK if the block raises.

        Raises Unavailable or DeadlineExceeded (nothing changed), OutcomeUnknown (lost in COMMIT),
        SerializationFailure (run it again), Conflict (a constraint; see `__cause__`).
        With `position`, COMMIT also says where the log stands, in the same round trip.
        """
        begin = "BEGIN READ ONLY" if read_only else "BEGIN"
        with self._span("transaction"):
            async with self._borrow(Stage.IN_TRANSACTION, timeout_s) as (conn, work):
                try:
                    await conn.execute(begin, prepare=False)
                    yield conn
                    work.stage = Stage.COMMITTING
                    await _commit(conn, self.name, position)
                except BaseException:
                    await _roll_back(conn)
                    raise

    @asynccontextmanager
    async def autocommit(
        self, *, read_only: bool = False, timeout_s: float | None = None
    ) -> AsyncGenerator[AsyncConnection, None]:
        """A connection on which every statement commits on its own.

        `read_only` is a promise of the caller and is not enforced: it says that a lost connection
        means Unavailable. Without it the same loss is OutcomeUnknown, as a write may have landed.
        """
        stage = Stage.READING if read_only else Stage.WRITING_ALONE
        with self._span("autocommit"):
            async with self._borrow(stage, timeout_s) as (conn, _work):
                yield conn

    @asynccontextmanager
    async def dedicated(self) -> AsyncGenerator[AsyncConnection, None]:
        """An own connection beside the pool, in autocommit mode, for LISTEN or advisory locks.

        Raises Unavailable if the server is away. The caller bounds its waits by `cut_off_after`.
        """
        arguments = _connect_arguments(self._settings, self.name)
        try:
            conn = await AsyncConnection[Any].connect(self._settings.dsn, **arguments)
        except psycopg.Error as error:
            raise lost(Stage.READING, self.name, str(error)) from error
        try:
            yield conn
        except psycopg.Error as error:
            raise translate(error, stage=Stage.WRITING_ALONE, name=self.name) from error
        finally:
            await conn.close()

    async def ping(self, *, timeout_s: float = 1.0) -> None:
        """Return when the server answers a query; raises Unavailable otherwise."""
        async with self.autocommit(read_only=True, timeout_s=timeout_s) as conn:
            await conn.execute("SELECT 1")

    @asynccontextmanager
    async def _borrow(
        self, stage: Stage, timeout_s: float | None
    ) -> AsyncGenerator[tuple[AsyncConnection, _Work], None]:
        limit_s = self._settings.transaction_timeout_s if timeout_s is None else timeout_s
        conn = await self._acquire(min(limit_s, self._settings.acquire_timeout_s))
        self._lent += 1
        work = _Work(stage)
        watchdog = asyncio.get_running_loop().call_later(limit_s, work.cut_off, conn)
        try:
            yield conn, work
        except psycopg.Error as error:
            if work.is_cut_off:
                raise out_of_time(work.stage, self.name, limit_s) from error
            raise translate(error, stage=work.stage, name=self.name) from error
        finally:
            watchdog.cancel()
            self._lent -= 1
            if work.is_cut_off:
                await conn.close()
            await self._pool.putconn(conn)

    async def _acquire(self, timeout_s: float) -> AsyncConnection:
        """A connection that the server has not closed while it lay idle."""
        try:
            while True:
                conn = await self._pool.getconn(timeout_s)
                if not _server_has_spoken(conn):
                    return conn
                await conn.close()
                await self._pool.putconn(conn)
        except psycopg_pool.PoolTimeout as error:
            raise no_connection(self.name, self._lent, self._settings.pool_max) from error
        except psycopg.Error as error:
            raise translate(error, stage=Stage.READING, name=self.name) from error

    def _span(self, operation: str) -> AbstractContextManager[object]:
        """A client span under a recorded parent; free of cost when nothing is recorded."""
        if self._tracer is None or not get_current_span().is_recording():
            return nullcontext()
        return self._tracer.start_as_current_span(
            f"{operation} {self.name}",
            kind=SpanKind.CLIENT,
            attributes={"db.system.name": "postgresql", "db.namespace": self.name},
        )


@contextmanager
def cut_off_after(conn: AsyncConnection, timeout_s: float) -> Generator[None, None, None]:
    """End the connection if the block takes longer than `timeout_s`, for `dedicated()` ones.

    The statement under way then raises as a lost connection does, and the connection is unusable.
    """
    watchdog = asyncio.get_running_loop().call_later(timeout_s, _sever, conn)
    try:
        yield
    finally:
        watchdog.cancel()


class _Work:
    """How far one borrowed connection has come, and whether its deadline has passed."""

    __slots__ = ("is_cut_off", "stage")

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.is_cut_off = False

    def cut_off(self, conn: AsyncConnection) -> None:
        self.is_cut_off = True
        _sever(conn)


def _connect_arguments(settings: PostgresSettings, name: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "autocommit": True,
        "prepare_threshold": None if settings.through_pooler else 1,
        # libpq counts whole seconds and reads 1 as 2.
        "connect_timeout": max(1, round(settings.connect_timeout_s)),
        "application_name": name,
    }
    if settings.through_pooler:
        return arguments
    read_only = " -c default_transaction_read_only=on" if settings.is_read_only else ""
    return {
        **arguments,
        "options": f"-c statement_timeout={round(settings.statement_timeout_s * 1000)} -c "
        f"idle_in_transaction_session_timeout={round(settings.transaction_timeout_s * 1000)}"
        f"{read_only}",
    }


async def _commit(conn: AsyncConnection, name: str, position: CommitPosition | None) -> None:
    """COMMIT that a cancelled task abandons but never cancels on the server (module docstring)."""
    if conn.info.transaction_status is not TransactionStatus.INTRANS:
        raise InvariantBroken(f"a failed statement was swallowed in a transaction on {name}")
    statement = "COMMIT" if position is None else _POSITION_SQL
    sending = asyncio.ensure_future(conn.execute(statement, prepare=False))
    try:
        cursor = await asyncio.shield(sending)
    except asyncio.CancelledError:
        _sever(conn)
        await asyncio.wait([sending])
        sending.exception()
        raise
    if position is not None and cursor.nextset():
        row = await cursor.fetchone()
        if row is not None:
            position.lsn, position.timeline = int(row[0]), int(row[1])


async def _roll_back(conn: AsyncConnection) -> None:
    """Leave nothing open: ROLLBACK where the connection still talks, else close it."""
    status = conn.info.transaction_status
    if status is TransactionStatus.IDLE or conn.closed:
        return
    if status is TransactionStatus.ACTIVE or status is TransactionStatus.UNKNOWN:
        await conn.close()
        return
    try:
        await conn.execute("ROLLBACK", prepare=False)
    except psycopg.Error:
        await conn.close()


def _server_has_spoken(conn: AsyncConnection) -> bool:
    """Whether bytes or an end of stream wait on an idle connection; then it is not trusted."""
    poll = select.poll()
    poll.register(conn.fileno(), select.POLLIN | select.POLLHUP)
    return bool(poll.poll(0))


def _sever(conn: AsyncConnection) -> None:
    """End the stream under the driver: whoever waits on it sees a lost connection at once."""
    if conn.closed:
        return
    with socket.socket(fileno=os.dup(conn.fileno())) as same_stream:
        try:
            same_stream.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
