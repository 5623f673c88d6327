"""A TCP proxy that puts distance between two processes of one machine.

    async with DelayProxy(port_of_the_server, up=Line(0.040), down=Line(0.040)) as proxy:
        ... connect to 127.0.0.1:proxy.port ...

`up` is the way to the server, `down` the way back. A new connection also pays for its handshake:
the kernel accepts at once, so the first bytes of each connection wait one round trip longer. What
is on its way is bounded per direction; a sender that is faster than the line is made to wait.
Bytes are not looked at: TLS passes.

As a process (it answers what its server answers, so a readiness probe goes through it):

    python -m scalelab.lab.faults --listen 8480 --to 8443 --delay-ms 40 --jitter-ms 4
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from random import Random
from types import TracebackType
from typing import Self

from scalelab.clock import Clock, SystemClock
from scalelab.errors import Unavailable
from scalelab.lab.faults.line import Line, LineState, pass_through

_CHUNK = 64 * 1024
_IN_FLIGHT = 4 * 1024 * 1024
"""Bytes on their way in one direction of one connection; more than 100 MB/s at 40 ms."""


class DelayProxy:
    """Listens on 127.0.0.1 and forwards to one server, both ways through a `Line`.

    port 0 takes a free one. Owned by one event loop; an async context manager. Connections to a
    server that is not there are reset. connections: accepted so far; open: now.
    """

    def __init__(
        self,
        to_port: int,
        *,
        up: Line = Line(),  # noqa: B008 - frozen
        down: Line = Line(),  # noqa: B008 - frozen
        port: int = 0,
        to_host: str = "127.0.0.1",
        random: Random | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.up, self.down = up, down
        self.connections = 0
        self._to = (to_host, to_port)
        self._port = port
        self._random = random or Random()
        self._clock = clock or SystemClock()
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    @property
    def open(self) -> int:
        """Connections that have not ended."""
        return len(self._open)

    async def start(self) -> None:
        """Listen. Raises Unavailable (`address_in_use`)."""
        try:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        except OSError as error:
            raise Unavailable(
                f"cannot listen on 127.0.0.1:{self._port}: {error.strerror}", code="address_in_use"
            ) from error
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more and cut what is open. Repeatable."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        await self.cut()

    def change(self, *, up: Line | None = None, down: Line | None = None) -> None:
        """New lines, from the next bytes on, for open connections too."""
        self.up, self.down = up or self.up, down or self.down

    async def cut(self) -> None:
        """Reset every open connection at both ends; new ones are accepted."""
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer))
        self._open[task] = writer
        task.add_done_callback(self._open.pop)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far: asyncio.StreamWriter | None = None
        end = _reset
        try:
            far_reader, far = await asyncio.open_connection(*self._to)
            opened_s = self._clock.monotonic_s() + self.up.delay_s + self.down.delay_s
            async with asyncio.TaskGroup() as group:
                group.create_task(self._way(reader, far, upwards=True, not_before_s=opened_s))
                group.create_task(self._way(far_reader, writer, upwards=False, not_before_s=0.0))
            end = _close
        except* OSError:  # either end is gone: so is the connection
            pass
        finally:
            for side in (writer, far):
                if side is not None:
                    end(side)

    async def _way(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        upwards: bool,
        not_before_s: float,
    ) -> None:
        way = _Way()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fill(reader, way, upwards, not_before_s))
            group.create_task(self._empty(writer, way))

    async def _fill(
        self, reader: asyncio.StreamReader, way: _Way, upwards: bool, not_before_s: float
    ) -> None:
        state = LineState()
        while data := await reader.read(_CHUNK):
            line = self.up if upwards else self.down
            state, passage = pass_through(
                line,
                state,
                size=len(data),
                now_s=max(self._clock.monotonic_s(), not_before_s),
                draw=self._random.random(),
            )
            await way.put(passage.out_s, data[: passage.size])
            if passage.resets:
                await way.put(passage.out_s, None)
                return
        out_s = max(self._clock.monotonic_s(), not_before_s)
        out_s += (self.up if upwards else self.down).delay_s
        await way.put(max(out_s, state.last_out_s), b"")

    async def _empty(self, writer: asyncio.StreamWriter, way: _Way) -> None:
        while True:
            out_s, data = await way.take()
            await asyncio.sleep(max(0.0, out_s - self._clock.monotonic_s()))
            if data is None:
                raise ConnectionResetError("the line resets here")
            if not data:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()


class _Way:
    """What is on its way in one direction: (instant, bytes); b"" is the end, None a reset."""

    def __init__(self) -> None:
        self._queue: deque[tuple[float, bytes | None]] = deque()
        self._held = 0
        self._changed = asyncio.Condition()

    async def put(self, out_s: float, data: bytes | None) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._held < _IN_FLIGHT)
            self._queue.append((out_s, data))
            self._held += len(data or b"")
            self._changed.notify_all()

    async def take(self) -> tuple[float, bytes | None]:
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._queue))
            out_s, data = self._queue.popleft()
            self._held -= len(data or b"")
            self._changed.notify_all()
            return out_s, data


def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection so that the other side sees that it did not end by itself."""
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
