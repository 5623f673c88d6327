"""Distance between real sockets: what is sent arrives whole, later, or not at all."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from scalelab.errors import Unavailable
from scalelab.lab.faults import DelayProxy, Line
from scalelab.lab.runtime import Runtime, ServiceSpec

DEADLINE_S = 20.0


@pytest.fixture
async def echo_port() -> AsyncIterator[int]:
    """A server that sends back what it gets, and ends when the other side ends."""
    writers: set[asyncio.StreamWriter] = set()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()
        except ConnectionError:
            writer.transport.abort()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for writer in writers:
        writer.transport.abort()


async def exchange(port: int, payload: bytes) -> tuple[bytes, float]:
    """Send, say that this is all, read to the end; what came and how long it took."""
    began_s = time.monotonic()
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(payload)
        writer.write_eof()
        try:
            return await reader.read(), time.monotonic() - began_s
        finally:
            writer.transport.abort()


async def test_what_goes_in_comes_out(echo_port: int) -> None:
    """Megabytes through jitter and a narrow line, in both directions, with half-close."""
    line = Line(0.002, jitter_s=0.01, bytes_per_s=50e6)
    payload = Random(1).randbytes(3_000_000)
    async with DelayProxy(echo_port, up=line, down=line, random=Random(2)) as proxy:
        got, _ = await exchange(proxy.port, payload)
        assert got == payload
        assert proxy.connections == 1


async def test_distance_is_never_less_than_what_was_asked_for(echo_port: int) -> None:
    """A first exchange pays the handshake too: two round trips at least."""
    async with DelayProxy(echo_port, up=Line(0.05), down=Line(0.03)) as proxy:
        _, took_s = await exchange(proxy.port, b"ping")
        assert took_s >= 2 * 0.08


async def test_a_line_can_be_changed_under_an_open_connection(echo_port: int) -> None:
    """A connection that waits for ever is a line of an hour; the next byte finds the new line."""
    async with DelayProxy(echo_port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        async with asyncio.timeout(DEADLINE_S):
            writer.write(b"one")
            assert await reader.readexactly(3) == b"one"
            proxy.change(up=Line(0.15))
            began_s = time.monotonic()
            writer.write(b"two")
            assert await reader.readexactly(3) == b"two"
        assert time.monotonic() - began_s >= 0.15
        writer.transport.abort()


async def test_a_line_that_resets_cuts_the_answer_there(echo_port: int) -> None:
    """The client has exactly the bytes before it, and an error instead of an end."""
    async with DelayProxy(echo_port, down=Line(reset_after_bytes=1000)) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"x" * 5000)
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.readexactly(1000) == b"x" * 1000
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
        writer.transport.abort()


async def test_cutting_ends_what_is_open_and_lets_new_ones_in(echo_port: int) -> None:
    """A cable pulled and put back."""
    async with DelayProxy(echo_port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        async with asyncio.timeout(DEADLINE_S):
            writer.write(b"one")
            assert await reader.readexactly(3) == b"one"
            await proxy.cut()
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
        assert proxy.open == 0
        assert (await exchange(proxy.port, b"again"))[0] == b"again"
        writer.transport.abort()


async def test_a_server_that_is_not_there_is_a_reset(runtime: Runtime) -> None:
    """The proxy accepts, as a kernel would not; so it must not look like a slow server."""
    nobody = runtime.port("nobody-behind-a-line", 9)
    async with DelayProxy(nobody) as proxy:
        with pytest.raises(ConnectionResetError):
            await exchange(proxy.port, b"ping")


async def test_a_taken_port_is_named(echo_port: int) -> None:
    """Two of them cannot listen in one place."""
    with pytest.raises(Unavailable, match="cannot listen") as refused:
        await DelayProxy(1, port=echo_port).start()
    assert refused.value.stable_code == "address_in_use"


async def test_as_a_process_it_is_ready_when_its_server_is(runtime: Runtime) -> None:
    """The command line's form, in front of a real service."""
    service, line = runtime.port("far-service", 8000), runtime.port("line", 8001)
    page = ("python", "-m", "http.server", "--bind", "127.0.0.1", str(service))
    proxy = ("-m", "scalelab.lab.faults", "--listen", str(line), "--to", str(service))
    specs = (
        ServiceSpec("far-service", page, service, ready_path="/", cwd=Path(__file__).parent),
        ServiceSpec("line", (sys.executable, *proxy, "--delay-ms", "5"), line, ready_path="/"),
    )
    await asyncio.to_thread(runtime.services, *specs)
    reader, writer = await asyncio.open_connection("127.0.0.1", line)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    async with asyncio.timeout(DEADLINE_S):
        assert b"test_delay_proxy.py" in await reader.read()
    writer.close()
    await asyncio.to_thread(runtime.stop, "line")
    await asyncio.to_thread(runtime.stop, "far-service")
