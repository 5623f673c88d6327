"""A half-close after the other side's reset, on both event loops."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

import pytest
import uvloop

from month1_caching_gateway.gateway.half_close import half_close

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


async def _after_a_reset() -> None:
    accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        peer = socket.create_connection(server.sockets[0].getsockname())
        writer = await accepted
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()  # with a reset
        half_close(writer.transport)  # before the loop has noticed
        writer.transport.abort()


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
def test_a_reset_connection_is_no_error(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Whatever the loop makes of it, the caller gets an answer and no exception."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_after_a_reset())


async def _with_a_peer() -> bytes:
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set_result(await reader.read())
        writer.transport.abort()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        port: int = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"all of it")
        assert half_close(writer.transport)
        whole = await heard
        writer.transport.abort()
    return whole


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
def test_what_was_written_comes_first(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """The end follows the bytes."""
    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(_with_a_peer()) == b"all of it"
