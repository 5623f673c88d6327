"""TCP echo server: bounded in memory and in time, whatever its peers do.

*Back-pressure.* A connection is read again only when its echoes are on their way, so a peer that
does not read stops being read: its bytes wait in its own send buffer. Per connection at most two
read buffers, one frame and one write buffer are held.

*Deadlines.* `idle_s` between frames, `message_s` for a frame once it has begun and for an echo to
leave. A peer that sends half a frame, or reads nothing, is closed by name.

*Half-close.* A peer may end its direction and still read: everything it sent whole is echoed first,
then our direction ends, too.

*Stop.* No new connection; whoever is between frames is ended at once, whoever is inside one may
finish it; at the limit the rest is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from month1_caching_gateway.sockets.framing import LENGTH, Decoder, Framing
from scalelab.errors import CorruptData, TooLarge

End = Literal[
    "finished",
    "idle",
    "slow_message",
    "slow_reader",
    "frame_too_large",
    "frame_truncated",
    "reset",
    "stopped",
    "too_many",
]


@dataclass(frozen=True, slots=True)
class Limits:
    """frame_bytes: the largest frame. buffer_bytes: of each buffer, read and write.

    connections: at the same time; one more is closed at once.
    """

    frame_bytes: int = 1 << 20
    buffer_bytes: int = 1 << 16
    connections: int = 1000
    idle_s: float = 60.0
    message_s: float = 10.0


@dataclass(slots=True)
class Closed:
    """How one connection went. frames, bytes: echoed whole; bytes without framing."""

    peer: str
    end: End = "finished"
    frames: int = 0
    bytes: int = 0


def _ignore(closed: Closed) -> None:
    """Nobody watches."""


@dataclass(slots=True, eq=False)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    decoder: Decoder
    account: Closed
    waiting: asyncio.Timeout | None = None
    began_s: float | None = None
    """When the frame that is arriving began, by the loop's clock."""
    task: asyncio.Task[None] | None = None
    cut: bool = False
    """Whether `stop` ended it before its peer was done."""


class TcpEchoServer:
    """Echoes frames on 127.0.0.1 or another address until `stop`.

    on_closed: gets every connection's account; it must not block or raise.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        framing: Framing = LENGTH,
        limits: Limits | None = None,
        on_closed: Callable[[Closed], None] = _ignore,
    ) -> None:
        self._host, self._port = host, port
        self._framing = framing
        self._limits = limits or Limits()
        self._on_closed = on_closed
        self._server: asyncio.Server | None = None
        self._open: set[_Connection] = set()
        self._stopping = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop(within_s=0.0)

    @property
    def port(self) -> int:
        """Where it listens; the kernel's choice if it was made with 0."""
        return self._port

    @property
    def connections(self) -> int:
        """Open now."""
        return len(self._open)

    async def start(self) -> None:
        """Listen. Raises OSError if the address cannot be had."""
        self._server = await asyncio.start_server(
            self._serve, self._host, self._port, limit=self._limits.buffer_bytes
        )
        self._port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self, *, within_s: float) -> None:
        """Stop as described above. Repeatable."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        loop = asyncio.get_running_loop()
        for connection in self._open:
            if connection.waiting is not None and not connection.decoder.pending:
                connection.waiting.reschedule(loop.time())
        tasks = [one.task for one in self._open if one.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=within_s)
            for connection in [one for one in self._open if one.task in late]:
                connection.cut = True
                connection.writer.transport.abort()
            await asyncio.gather(*late)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        limits = self._limits
        writer.transport.set_write_buffer_limits(high=limits.buffer_bytes)
        connection = _Connection(
            reader,
            writer,
            self._framing.decoder(limits.frame_bytes),
            Closed(str(writer.get_extra_info("peername"))),
            task=asyncio.current_task(),
        )
        if self._stopping or len(self._open) >= limits.connections:
            connection.account.end = "stopped" if self._stopping else "too_many"
            writer.transport.abort()
            self._on_closed(connection.account)
            return
        self._open.add(connection)
        try:
            connection.account.end = await self._converse(connection)
        except OSError:
            connection.account.end = "reset"
        finally:
            if connection.cut:
                connection.account.end = "stopped"
            self._open.discard(connection)
            await self._close(connection)
            self._on_closed(connection.account)

    async def _converse(self, connection: _Connection) -> End:
        """Echo until the peer ends or breaks a rule; returns how it ended."""
        while True:
            try:
                piece = await self._read(connection)
            except TimeoutError:
                if self._stopping and not connection.decoder.pending:
                    return "stopped"
                return "slow_message" if connection.decoder.pending else "idle"
            if not piece:
                try:
                    connection.decoder.finish()
                except CorruptData:
                    return "frame_truncated"
                return "finished"
            connection.decoder.feed(piece)
            try:
                await self._echo(connection)
            except TooLarge:
                return "frame_too_large"
            except TimeoutError:
                return "slow_reader"
            if self._stopping and not connection.decoder.pending:
                return "stopped"

    async def _read(self, connection: _Connection) -> bytes:
        now_s = asyncio.get_running_loop().time()
        if not connection.decoder.pending:
            connection.began_s = None
            deadline_s = now_s + self._limits.idle_s
        else:
            if connection.began_s is None:
                connection.began_s = now_s
            deadline_s = connection.began_s + self._limits.message_s
        async with asyncio.timeout_at(deadline_s) as waiting:
            connection.waiting = waiting
            try:
                return await connection.reader.read(self._limits.buffer_bytes)
            finally:
                connection.waiting = None

    async def _echo(self, connection: _Connection) -> None:
        """Send back every whole frame; returns when the last is within the write buffer."""
        while (frame := connection.decoder.next_frame()) is not None:
            connection.began_s = None
            connection.writer.write(self._framing.encode(frame))
            async with asyncio.timeout(self._limits.message_s):
                await connection.writer.drain()
            connection.account.frames += 1
            connection.account.bytes += len(frame)

    async def _close(self, connection: _Connection) -> None:
        """End our direction; what is still buffered leaves, unless the peer broke a rule."""
        writer = connection.writer
        if connection.account.end in ("slow_reader", "reset"):
            writer.transport.abort()
        writer.close()
        try:
            async with asyncio.timeout(self._limits.message_s):
                await writer.wait_closed()
        except TimeoutError:  # the rest of the echoes finds no reader
            writer.transport.abort()
        except OSError:
            pass
