"""Large bodies for the gateway's bench: who sends and swallows them, and who asks for them.

CPU is counted per megabyte of the process in the middle. A client that does not read shows what a
slow reader costs in memory: the process's growth for each of many that stall.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import cast

from month1_caching_gateway.experiments.overhead_process import Served
from month1_caching_gateway.gateway import Endpoint, Gateway, GatewaySettings, Route, Upstream
from month1_caching_gateway.gateway.process import NoTokens, calm_collector
from month1_caching_gateway.ratelimit import Limiter, MemoryStore
from scalelab.clock import SystemClock
from scalelab.telemetry import TelemetrySettings, build_telemetry

MEGABYTE = 1_000_000
SIZE = 100 * MEGABYTE
_BLOCK = bytes(128 * 1024)
_END = b"\r\n\r\n"
_OVER_S = 120.0


class _Bodies(asyncio.Protocol):
    """GET: SIZE bytes, as fast as they are taken. POST: reads SIZE bytes, then answers 204."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._to_send = 0
        self._to_read = 0
        self._full = False

    def data_received(self, data: bytes) -> None:
        if self._to_read:
            self._swallow(len(data))
            return
        head, _, rest = data.partition(_END)
        if head.startswith(b"POST"):
            self._to_read = SIZE
            self._swallow(len(rest))
            return
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        self._to_send = SIZE
        self._send()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._send()

    def _send(self) -> None:
        while self._to_send and not self._full:
            block = _BLOCK[: self._to_send]
            self._to_send -= len(block)
            self._transport.write(block)

    def _swallow(self, count: int) -> None:
        self._to_read -= count
        if not self._to_read:
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


async def serve_bodies() -> Served:
    """The service."""
    server = await asyncio.get_running_loop().create_server(_Bodies, "127.0.0.1", 0)
    return int(server.sockets[0].getsockname()[1]), "none"


async def serve_streaming_gateway(upstream: int) -> Served:
    """A gateway whose route takes bodies of that size, and has patience with slow readers."""
    clock = SystemClock()
    every = frozenset({"GET", "POST"})
    gateway = Gateway(
        GatewaySettings(slow_reader_timeout_s=_OVER_S),
        [Route("app", prefix="/", auth="none", methods=every, max_body_bytes=2 * SIZE)],
        [Upstream("app", (Endpoint("127.0.0.1", upstream),), max_connections=256)],
        NoTokens(),
        Limiter(MemoryStore(clock), clock),
        build_telemetry(TelemetrySettings("gateway", trace_export="none")),
        clock,
        log_sink=len,
    )
    port = await gateway.start("127.0.0.1", 0)
    calm_collector()
    return port, "none"


async def download(port: int, count: int) -> None:
    """Read `count` bodies, one after another. Raises RuntimeError for a short one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        async with asyncio.timeout(_OVER_S):
            for _ in range(count):
                writer.write(b"GET /body HTTP/1.1\r\nHost: localhost\r\n\r\n")
                head = await reader.readuntil(_END)
                if not head.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"a wrong answer: {head!r}")
                left = SIZE
                while left:
                    piece = await reader.read(min(left, 1 << 20))
                    if not piece:
                        raise RuntimeError(f"{left} bytes are missing")
                    left -= len(piece)
    finally:
        writer.transport.abort()


async def upload(port: int, count: int) -> None:
    """Send `count` bodies, one after another."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % SIZE
    try:
        async with asyncio.timeout(_OVER_S):
            for _ in range(count):
                writer.write(head)
                left = SIZE
                while left:
                    block = _BLOCK[:left]
                    writer.write(block)
                    await writer.drain()
                    left -= len(block)
                answer = await reader.readuntil(_END)
                if not answer.startswith(b"HTTP/1.1 204"):
                    raise RuntimeError(f"a wrong answer: {answer!r}")
    finally:
        writer.transport.abort()


@contextlib.asynccontextmanager
async def stalled(port: int, count: int) -> AsyncGenerator[None]:
    """`count` clients that ask for a body and read only its first bytes."""
    writers: list[asyncio.StreamWriter] = []
    try:
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writers.append(writer)
            writer.write(b"GET /body HTTP/1.1\r\nHost: localhost\r\n\r\n")
            async with asyncio.timeout(_OVER_S):
                await reader.readuntil(_END)
        await asyncio.sleep(1.0)  # what can be buffered is buffered by then
        yield
    finally:
        for writer in writers:
            writer.transport.abort()
