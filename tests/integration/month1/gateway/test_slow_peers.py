"""Slow clients are closed, slow readers slow the sender down, and memory stays bounded.

Time is a ManualClock: no test waits for a deadline, it moves the clock past it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

import pytest

from month1_caching_gateway.gateway import GatewaySettings, Route
from scalelab.clock import ManualClock
from tests.fixtures.tiers import Count
from tests.integration.month1.gateway.harness import Seen, client, peer, running, until

MEBIBYTE = 1024 * 1024
SETTINGS = GatewaySettings(sweep_s=0.01)
EVERY = frozenset({"GET", "POST"})
HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


async def test_a_connection_that_says_nothing_is_closed_without_a_word() -> None:
    """No request, no answer: a scanner learns nothing."""
    clock = ManualClock()
    async with peer() as app, running([app], settings=SETTINGS, clock=clock) as gateway:
        async with client(gateway.port) as http:
            await until(lambda: gateway.gateway.connections == 1)
            clock.advance(10.5)
            assert await http.closed() == b""
        assert app.seen == []


async def test_a_head_that_drips_is_408_however_steadily_it_drips() -> None:
    """The deadline is for the whole head; new bytes do not extend it."""
    clock = ManualClock()
    async with (
        peer() as app,
        running([app], settings=SETTINGS, clock=clock) as gateway,
        client(gateway.port) as http,
    ):
        assert (await http.ask("GET", "/")).status == 200
        for byte in HEAD[:3]:
            await http.send(bytes([byte]))
            await asyncio.sleep(0.02)
            clock.advance(3.0)
        await http.send(HEAD[3:4])
        await asyncio.sleep(0.02)
        clock.advance(3.0)
        got = await http.answer()
        assert (got.status, got.code) == (408, "request_timeout")
        assert await http.closed() == b""
        assert len(app.seen) == 1


@pytest.mark.parametrize("length", [50_000, 900_000], ids=["buffered", "streamed"])
async def test_a_body_that_stops_is_408(length: int) -> None:
    """Less than the demanded bytes in a window ends the request; the upstream gets no half body."""
    clock = ManualClock()
    async with (
        peer() as app,
        running([app], settings=SETTINGS, clock=clock) as gateway,
        client(gateway.port) as http,
    ):
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % length
        await http.send(head + b"x" * 100)
        await until(lambda: gateway.gateway.connections == 1)
        await asyncio.sleep(0.05)
        clock.advance(10.5)
        got = await http.answer()
        assert (got.status, got.code) == (408, "body_timeout")
        assert await http.closed() == b""
        assert app.seen == []


async def test_a_slow_but_steady_body_is_served() -> None:
    """Two kilobytes a window are enough, for as long as it takes."""
    clock = ManualClock()
    async with (
        peer() as app,
        running([app], settings=SETTINGS, clock=clock) as gateway,
        client(gateway.port) as http,
    ):
        await http.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20480\r\n\r\n")
        for _ in range(10):
            await http.send(b"x" * 2048)
            await asyncio.sleep(0.05)
            clock.advance(9.0)
        got = await http.answer()
        assert got.status == 200
        assert len(app.seen[0].body) == 20480


async def test_an_idle_connection_is_closed_after_its_time() -> None:
    """Between requests a connection may rest, but not for ever."""
    clock = ManualClock()
    async with (
        peer() as app,
        running([app], settings=SETTINGS, clock=clock) as gateway,
        client(gateway.port) as http,
    ):
        await http.ask("GET", "/")
        clock.advance(55.0)
        assert (await http.ask("GET", "/")).status == 200
        clock.advance(61.0)
        assert await http.closed() == b""
        assert len(app.seen) == 2


@pytest.mark.parametrize("wire", [b"", HEAD[:10], HEAD + b"Content-Length: 9\r\n\r\nabc"])
async def test_a_client_that_closes_its_half_has_gone(wire: bytes) -> None:
    """Half-open connections are not kept, whatever was begun on them; no service hears of it."""
    async with (
        peer() as app,
        running([app], settings=SETTINGS, clock=ManualClock()) as gateway,
        client(gateway.port) as http,
    ):
        await http.send(wire)
        http.writer.write_eof()
        assert await http.closed() == b""
        await until(lambda: gateway.gateway.connections == 0)
        assert app.seen == []


async def test_honest_clients_are_served_while_many_drip(count: Count) -> None:
    """A thousand connections that never end their heads: others are answered, and they are cut."""
    clock, size = ManualClock(), count(1000, share=0.1)
    async with peer() as app, running([app], settings=SETTINGS, clock=clock) as gateway:
        async with contextlib.AsyncExitStack() as stack:
            attackers = [await stack.enter_async_context(client(gateway.port)) for _ in range(size)]
            for attacker in attackers:
                await attacker.send(HEAD)
            await until(lambda: gateway.gateway.connections == size)
            async with client(gateway.port) as honest:
                for _ in range(20):
                    assert (await honest.ask("GET", "/")).status == 200
                clock.advance(5.0)
                for attacker in attackers:
                    await attacker.send(b"X")
                assert (await honest.ask("GET", "/")).status == 200
                clock.advance(5.5)
                for attacker in attackers:
                    assert (await attacker.answer()).status == 408
                assert (await honest.ask("GET", "/")).status == 200
        assert len(app.seen) == 22


async def test_connections_over_the_cap_are_refused() -> None:
    """The third of two is closed; the first two work on."""
    settings = GatewaySettings(sweep_s=0.01, max_connections=2)
    async with peer() as app, running([app], settings=settings) as gateway:
        async with (
            client(gateway.port) as one,
            client(gateway.port) as two,
        ):
            assert (await one.ask("GET", "/")).status == 200
            assert (await two.ask("GET", "/")).status == 200
            async with client(gateway.port) as three:
                assert await three.closed() == b""
            assert (await one.ask("GET", "/")).status == 200
        await until(lambda: gateway.gateway.connections == 0)


class Fountain:
    """Sends `size` bytes as fast as it is allowed to, and counts them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.sent = 0

    async def answer(
        self, _seen: Seen, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        writer.transport.set_write_buffer_limits(high=0)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.size)
        block = b"x" * 65536
        while self.sent < self.size:
            writer.write(block)
            await writer.drain()
            self.sent += len(block)
        return True


async def stalled(read: Callable[[], int]) -> int:
    """The value once it has stopped growing: unchanged for a hundred looks."""
    last, same = -1, 0
    async with asyncio.timeout(20):
        while same < 100:
            now = read()
            same = same + 1 if now == last else 0
            last = now
            await asyncio.sleep(0.002)
    return last


async def small_window(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client with small kernel buffers, so that a stall is seen soon."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=sock, limit=65536)


async def test_a_client_that_does_not_read_stops_the_upstream_and_can_go_on() -> None:
    """Back-pressure: of 96 MiB only what kernel buffers hold is taken; nothing is lost after."""
    fountain = Fountain(96 * MEBIBYTE)
    clock = ManualClock()
    async with (
        peer(fountain.answer) as app,
        running([app], settings=SETTINGS, clock=clock) as gateway,
    ):
        reader, writer = await small_window(gateway.port)
        writer.write(HEAD + b"\r\n")
        taken = await stalled(lambda: fountain.sent)
        assert 0 < taken < 24 * MEBIBYTE
        async with asyncio.timeout(60):
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(96 * MEBIBYTE)
        writer.transport.abort()


async def test_a_client_that_never_reads_is_cut_off() -> None:
    """The slow reader's deadline: client and upstream connection both go."""
    fountain = Fountain(96 * MEBIBYTE)
    clock = ManualClock()
    async with (
        peer(fountain.answer) as app,
        running([app], settings=SETTINGS, clock=clock) as gateway,
    ):
        _reader, writer = await small_window(gateway.port)
        writer.write(HEAD + b"\r\n")
        await stalled(lambda: fountain.sent)
        clock.advance(10.5)
        await until(lambda: gateway.gateway.connections == 0)
        assert gateway.metric("gateway_events_total", kind="slow_reader") == 1
        await until(lambda: gateway.metric("gateway_upstream_connections", upstream="app") == 0)
        writer.transport.abort()


async def test_an_upstream_that_does_not_read_stops_the_client() -> None:
    """The other direction: an upload is not swallowed into memory."""
    go_on = asyncio.Event()
    got = 0

    async def answer(_s: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        nonlocal got
        await go_on.wait()
        while got < 60 * MEBIBYTE and (data := await reader.read(MEBIBYTE)):
            got += len(data)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        return False

    routes = [Route("app", prefix="/", auth="none", methods=EVERY, max_body_bytes=99 * MEBIBYTE)]
    async with (
        peer(answer, whole_bodies=False) as app,
        running([app], routes, settings=SETTINGS, clock=ManualClock()) as gateway,
        client(gateway.port) as http,
    ):
        size, sent = 64 * MEBIBYTE, 0

        async def upload() -> None:
            nonlocal sent
            http.writer.transport.set_write_buffer_limits(high=0)
            await http.send(
                b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size
            )
            while sent < size:
                await http.send(b"x" * 65536)
                sent += 65536

        uploading = asyncio.create_task(upload())
        taken = await stalled(lambda: sent)
        assert taken < 32 * MEBIBYTE
        go_on.set()
        assert (await http.answer(to="POST")).status == 204
        uploading.cancel()
        await asyncio.gather(uploading, return_exceptions=True)
