"""Change stream: a logical replication slot, read as the server sends it.

Theory of operation
    A connection in replication mode is switched to streaming by START_REPLICATION. Both sides then
    talk at once, which psycopg's cursors do not do; this drives libpq's copy functions from the
    event loop. The reader says up to where it is done; the server keeps the log from there on.

    Streaming reads the log once. The SQL functions (`pg_logical_slot_peek_changes`) would begin
    anew at every call, far behind where they were left: too slow for whoever waits for the end.

Guarantees
    G1  After a break the slot gives everything again from the last `confirm`, or this raises
        SlotLost: nothing is left out silently.
    G2  Whoever has taken all that `read` gave may confirm `idle_lsn`: so a quiet publication in a
        busy database does not make the server keep its log.
"""

from __future__ import annotations

import asyncio
import struct
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import pq

from scalelab.errors import Conflict, OutcomeUnknown, Unavailable

_GONE = frozenset({"42704", "55000", "58P01"})
"""No such slot; a slot that was invalidated; log files removed."""
_IN_USE = "55006"
_STATUS_EVERY_S = 1.0


class SlotLost(Conflict):
    """The replication slot is gone, or what it still needs is: its reader must begin anew."""

    code = "slot_lost"


class ChangeStream:
    """Messages of one slot from `after_lsn` on; an async context manager.

    name: of slot and publication, [a-z0-9_]. after_lsn: 0 for where the slot itself stands.
    Raises SlotLost, or Unavailable where the server is away.
    """

    def __init__(self, dsn: str, name: str, *, after_lsn: int) -> None:
        self._dsn = dsn
        self._name = name
        self._confirmed_lsn = after_lsn
        self.idle_lsn = 0
        """All that was committed before this has been sent; it moves on while nothing comes."""
        self._conn: psycopg.AsyncConnection[Any] | None = None
        self._listening: int | None = None
        self._told_at_s = 0.0
        self._readable = asyncio.Event()

    async def __aenter__(self) -> Self:
        try:
            self._conn = await psycopg.AsyncConnection[Any].connect(
                self._dsn, replication="database", autocommit=True, connect_timeout=5
            )
        except psycopg.Error as error:
            raise Unavailable(f"no replication connection: {error}") from error
        try:
            await self._start(self._conn)
        except BaseException:
            await self._conn.close()
            raise
        self._listen(self._conn)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._conn is not None:
            self._stop_listening()
            self._conn.pgconn.finish()
            await self._conn.close()

    async def read(self, *, timeout_s: float) -> bytes | None:
        """The next message for `pgoutput.decode`, or None after `timeout_s` without one."""
        deadline_s = _now_s() + timeout_s
        while True:
            data = self._next()
            if data is None:
                left_s = deadline_s - _now_s()
                if left_s <= 0 or not await self._wait(min(left_s, _STATUS_EVERY_S)):
                    self._tell_when_due()
                    if left_s <= 0:
                        return None
            elif data[:1] == b"w":
                return data[25:]
            elif data[:1] == b"k":
                self.idle_lsn = int.from_bytes(data[1:9])
                if data[17] == 1:
                    self._tell()

    def confirm(self, lsn: int) -> None:
        """Everything before `lsn` is durable elsewhere; the server need not keep it."""
        self._confirmed_lsn = max(self._confirmed_lsn, lsn)
        self._tell_when_due()

    async def _start(self, conn: psycopg.AsyncConnection[Any]) -> None:
        at = f"{self._confirmed_lsn >> 32:X}/{self._confirmed_lsn & 0xFFFFFFFF:X}"
        command = (
            f"START_REPLICATION SLOT {self._name} LOGICAL {at} (proto_version '1',"
            f" publication_names '{self._name}', messages 'true')"
        )
        conn.pgconn.send_query(command.encode())
        self._listen(conn)
        try:
            conn.pgconn.flush()
            conn.pgconn.consume_input()
            while conn.pgconn.is_busy():
                if not await self._wait(10.0):
                    raise Unavailable("the server does not start to stream")
                conn.pgconn.consume_input()
            result = conn.pgconn.get_result()
        except psycopg.OperationalError as error:
            raise Unavailable(f"the replication connection broke: {error}") from error
        finally:
            self._stop_listening()
        if result is None or result.status != pq.ExecStatus.COPY_BOTH:
            raise _refused(self._name, result)

    def _listen(self, conn: psycopg.AsyncConnection[Any]) -> None:
        self._listening = conn.fileno()
        asyncio.get_running_loop().add_reader(self._listening, self._readable.set)

    def _stop_listening(self) -> None:
        """By the number noted before: a connection that was lost does not tell it any more."""
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening = None

    def _next(self) -> bytes | None:
        pgconn = self._pgconn()
        try:
            pgconn.consume_input()
            size, data = pgconn.get_copy_data(1)
        except psycopg.Error as error:
            raise self._broken(pgconn, str(error)) from error
        if size == 0:
            return None
        if size < 0:
            raise self._broken(pgconn, "the stream ended")
        return bytes(data)

    async def _wait(self, timeout_s: float) -> bool:
        """Whether bytes came within the time."""
        self._readable.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._readable.wait()
        except TimeoutError:
            return False
        return True

    def _tell_when_due(self) -> None:
        if _now_s() - self._told_at_s >= _STATUS_EVERY_S:
            self._tell()

    def _tell(self) -> None:
        self._told_at_s = _now_s()
        lsn = self._confirmed_lsn
        pgconn = self._pgconn()
        try:
            pgconn.put_copy_data(struct.pack(">cQQQQB", b"r", lsn, lsn, lsn, 0, 0))
            pgconn.flush()
        except psycopg.Error as error:
            raise self._broken(pgconn, str(error)) from error

    def _pgconn(self) -> pq.abc.PGconn:
        if self._conn is None:
            raise Unavailable("the stream has not begun")
        return self._conn.pgconn

    def _broken(self, pgconn: pq.abc.PGconn, evidence: str) -> Exception:
        """What the server said when it ended the stream decides whether the slot is lost."""
        self._stop_listening()
        if pgconn.status == pq.ConnStatus.OK:
            result = pgconn.get_result()
            if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
                return _refused(self._name, result)
        return OutcomeUnknown(f"the change stream broke: {' '.join(evidence.split())}")


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _refused(name: str, result: pq.abc.PGresult | None) -> Exception:
    if result is None:
        return Unavailable(f"the stream of {name} did not begin")
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    said = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode()
    if state == _IN_USE:
        return Unavailable(f"the slot {name} is in use: {said}", code="slot_in_use")
    if state in _GONE:
        return SlotLost(f"the slot {name} is lost: {said}")
    return Unavailable(f"the stream of {name} was refused: {said}")
