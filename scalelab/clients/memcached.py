"""Memcached: one pipelined connection with deadlines, and its errors in our tree.

Theory of operation
    Answers carry no name; they come in the order of the commands. So a command whose answer did
    not come in time spoils the connection: the next caller would be given the late answer as its
    own. Here such a connection is closed, everything on it fails, and the next call opens a new
    one. A caller that is cancelled leaves its place in the line: its answer is read and dropped.

Guarantees
    An answer belongs to its command. Every call ends within connect_timeout_s + timeout_s. A
    connection that cannot be made is Unavailable; one that broke or fell silent after sending is
    OutcomeUnknown, or Unavailable for a call that only reads.

Source: Memcached's text protocol (doc/protocol.txt): gets, add, cas, set, delete.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import cast

from scalelab.clients.memcached_replies import Reply, ReplyReader
from scalelab.errors import CorruptData, OutcomeUnknown, ScalelabError, Unavailable


class Memcached:
    """A client of one server; connects on first use. Close with `aclose`.

    timeout_s: for the answers of one call. One connection carries all calls of this client.
    """

    def __init__(
        self, host: str, port: int, *, timeout_s: float = 0.25, connect_timeout_s: float = 0.5
    ) -> None:
        self._host = host
        self._port = port
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._line: _Line | None = None
        self._connecting = asyncio.Lock()

    async def call(self, commands: Sequence[bytes], *, read_only: bool = False) -> list[Reply]:
        """Send complete commands in one write and await one reply for each.

        A reply `ERROR …` of the server is a reply, not an exception: the others still count.
        """
        line = await self._connected()
        replies = line.send(commands)
        try:
            async with asyncio.timeout(self._timeout_s):
                return [await reply for reply in replies]
        except TimeoutError as error:
            line.abort()
            raise _lost("fell silent", read_only=read_only) from error
        except (ConnectionError, CorruptData) as error:
            line.abort()
            raise _lost(str(error) or "hung up", read_only=read_only) from error
        finally:
            for reply in replies:
                reply.cancel()

    async def aclose(self) -> None:
        """Hang up; calls under way fail."""
        line, self._line = self._line, None
        if line is not None:
            line.abort()
            await line.closed.wait()

    async def _connected(self) -> _Line:
        async with self._connecting:
            if self._line is None or self._line.is_lost:
                loop = asyncio.get_running_loop()
                try:
                    async with asyncio.timeout(self._connect_timeout_s):
                        _, self._line = await loop.create_connection(_Line, self._host, self._port)
                except (TimeoutError, OSError) as error:
                    raise Unavailable(
                        f"Memcached on {self._host}:{self._port} cannot be reached: {error}",
                        code="memcached_unavailable",
                    ) from error
            return self._line


class _Line(asyncio.Protocol):
    """One connection and who waits on it, in order."""

    def __init__(self) -> None:
        self.is_lost = False
        self.closed = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._reader = ReplyReader()
        self._waiting: deque[asyncio.Future[Reply]] = deque()

    def send(self, commands: Sequence[bytes]) -> list[asyncio.Future[Reply]]:
        loop = asyncio.get_running_loop()
        replies: list[asyncio.Future[Reply]] = [loop.create_future() for _ in commands]
        if self.is_lost or self._transport is None:
            raise Unavailable("Memcached hung up", code="memcached_unavailable")
        self._waiting.extend(replies)
        self._transport.write(b"".join(commands))
        return replies

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._fail(ConnectionResetError("given up"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        try:
            replies = self._reader.feed(data)
        except CorruptData as error:
            self._fail(error)
            self.abort()
            return
        for reply in replies:
            if not self._waiting:
                self.abort()  # an answer nobody asked for: we no longer know whose the next is
                return
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        self._fail(exc if isinstance(exc, ConnectionError) else ConnectionResetError("hung up"))

    def _fail(self, error: Exception) -> None:
        self.is_lost = True
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # seen: the call that waits may have failed by another reply


def _lost(what: str, *, read_only: bool) -> ScalelabError:
    if read_only:
        return Unavailable(f"Memcached {what}", code="memcached_unavailable")
    return OutcomeUnknown(f"Memcached {what} after a command was sent")
