"""WebSocket pass-through with a real server and client, and everything that is no handshake."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from month1_caching_gateway.gateway import GatewaySettings, Route
from month1_caching_gateway.gateway.websocket import accept_of
from scalelab.clock import ManualClock
from tests.integration.month1.gateway.harness import (
    DEADLINE_S,
    Peer,
    Seen,
    client,
    peer,
    running,
    until,
)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}
ROUTES = [
    Route("app", template="/ws", auth="none", websocket=True),
    Route("app", template="/private", auth="user", websocket=True),
    Route("app", prefix="/", auth="none"),
]
SETTINGS = GatewaySettings(sweep_s=0.01, drain_s=0.2, log_flush_s=0.01)


class WebSocketService:
    """A real WebSocket server: echoes text, answers bytes with as many bytes as they say."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[web.Request] = []
        self.closed = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        socket = web.WebSocketResponse(protocols=("shop.v1",), max_msg_size=0)
        await socket.prepare(request)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await socket.send_bytes(bytes(int(message.data)))
        self.closed += 1
        return socket


@asynccontextmanager
async def service() -> AsyncIterator[tuple[WebSocketService, Peer]]:
    made = WebSocketService()
    app = web.Application()
    app.router.add_get("/{tail:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.port = runner.addresses[0][1]
    try:
        yield made, Peer(port=made.port)
    finally:
        await runner.cleanup()


async def test_messages_pass_both_ways_and_the_close_is_heard_by_both() -> None:
    """A real client and server, a subprotocol, small and large messages, a clean close."""
    async with (
        service() as (app, at),
        running([at], ROUTES, settings=SETTINGS) as gateway,
        aiohttp.ClientSession() as session,
    ):
        url = f"http://localhost:{gateway.port}/ws?room=7"
        async with session.ws_connect(url, protocols=("shop.v1",), max_msg_size=0) as socket:
            assert socket.protocol == "shop.v1"
            for text in ("a", "ä" * 1000, ""):
                await socket.send_str(text)
                assert await socket.receive_str() == text
            await socket.send_bytes(b"3000000")
            assert len(await socket.receive_bytes()) == 3_000_000
            assert gateway.metric("gateway_events_total", kind="tunnel_opened") == 1
        await until(lambda: app.closed == 1)
        await until(lambda: gateway.gateway.connections == 0)
        await until(lambda: len(gateway.records()) == 1)
        seen = app.requests[0]
        assert seen.path_qs == "/ws?room=7"
        assert seen.headers["X-Forwarded-For"] == "127.0.0.1"
        (record,) = gateway.records()
        assert (record["status"], record["code"], record["route"]) == (101, "", "/ws")
        assert isinstance(record["bytes_out"], int)
        assert record["bytes_out"] > 3_000_000
        assert gateway.metric("gateway_upstream_connections", upstream="app") == 0


REFUSED = {
    "h2c": {"Upgrade": "h2c"},
    "two-protocols": {"Upgrade": "websocket, h2c"},
    "no-key": {"Sec-WebSocket-Key": None},
    "short-key": {"Sec-WebSocket-Key": "AAAA"},
    "key-of-17-bytes": {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAAA="},
    "old-version": {"Sec-WebSocket-Version": "8"},
    "connection-does-not-name-it": {"Connection": "keep-alive"},
    "connection-closes": {"Connection": "close, Upgrade"},
    "with-a-body": {"Content-Length": "3"},
    "with-chunks": {"Transfer-Encoding": "chunked"},
}


@pytest.mark.parametrize("case", sorted(REFUSED))
async def test_half_a_handshake_is_refused_and_reaches_no_service(case: str) -> None:
    """On a route that takes WebSockets too."""
    headers = {**HANDSHAKE, **REFUSED[case]}
    async with peer() as app, running([app], ROUTES) as gateway, client(gateway.port) as http:
        lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
        head = ["GET /ws HTTP/1.1", "Host: localhost", *lines, "", ""]
        await http.send("\r\n".join(head).encode() + b"GET /smuggled HTTP/1.1\r\nHost: localhost")
        got = await http.answer()
        assert got.status == 400
        assert await http.closed() == b""
        assert app.seen == []


async def test_a_handshake_on_a_route_that_takes_none_is_refused() -> None:
    """Nothing is tunnelled that nobody asked to be tunnelled."""
    async with peer() as app, running([app], ROUTES) as gateway, client(gateway.port) as http:
        got = await http.ask("GET", "/plain", None, **HANDSHAKE)
        assert (got.status, got.code) == (400, "upgrade_refused")
        assert await http.closed() == b""
        assert app.seen == []


async def test_who_may_not_ask_may_not_connect() -> None:
    """Admission comes before the handshake travels: 401 without a token, 403 for a strange page."""
    async with peer() as app, running([app], ROUTES) as gateway:
        async with client(gateway.port) as http:
            got = await http.ask("GET", "/private", None, **HANDSHAKE)
            assert got.status == 401
        async with client(gateway.port) as http:
            got = await http.ask("GET", "/ws", None, Origin="https://evil.example", **HANDSHAKE)
            assert (got.status, got.code) == (403, "origin_refused")
        assert app.seen == []


def switching(tail: bytes = b"", *, accept: bytes | None = None) -> object:
    """An upstream that answers 101 and `tail`, then echoes raw bytes in capitals until the end."""

    async def answer(
        _seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        proof = accept_of(KEY.encode()) if accept is None else accept
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % proof + tail
        )
        while data := await reader.read(65536):
            writer.write(data.upper())
            await writer.drain()
        with contextlib.suppress(OSError):  # the gateway may have cut it
            writer.write(b"<end>")
            writer.write_eof()
            await reader.read()
        return False

    return answer


async def ask_for_a_tunnel(http: object) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE.items())
    await http.send(f"GET /ws HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())  # type: ignore[attr-defined]
    async with asyncio.timeout(DEADLINE_S):
        return await http.reader.readuntil(b"\r\n\r\n")  # type: ignore[attr-defined]


async def test_each_half_is_closed_on_its_own() -> None:
    """Bytes sent right after the 101 arrive, and a client that has said all still hears the end."""
    async with (
        peer(switching(b"early"), whole_bodies=False) as app,  # type: ignore[arg-type]
        running([app], ROUTES, settings=SETTINGS) as gateway,
        client(gateway.port) as http,
    ):
        head = await ask_for_a_tunnel(http)
        assert head.startswith(b"HTTP/1.1 101 ")
        await http.send(b"abc")
        async with asyncio.timeout(DEADLINE_S):
            assert await http.reader.readexactly(8) == b"earlyABC"
        http.writer.write_eof()
        assert await http.closed() == b"<end>"
        await until(lambda: gateway.gateway.connections == 0)


async def test_a_101_that_does_not_prove_the_handshake_is_502() -> None:
    """A service that did not understand the question is not connected to anybody."""
    async with (
        peer(switching(accept=b"wrong"), whole_bodies=False) as app,  # type: ignore[arg-type]
        running([app], ROUTES) as gateway,
        client(gateway.port) as http,
    ):
        got = await http.ask("GET", "/ws", None, **HANDSHAKE)
        assert (got.status, got.code) == (502, "bad_gateway")
        assert len(app.seen) == 1


async def test_a_101_that_nobody_asked_for_is_502() -> None:
    """On a plain request of the same route."""
    async with (
        peer(switching(), whole_bodies=False) as app,  # type: ignore[arg-type]
        running([app], ROUTES) as gateway,
        client(gateway.port) as http,
    ):
        got = await http.ask("GET", "/ws")
        assert (got.status, got.code) == (502, "bad_gateway")


async def test_a_service_that_declines_is_heard() -> None:
    """Its answer passes like any other, and the connection goes on."""
    async with peer() as app, running([app], ROUTES) as gateway, client(gateway.port) as http:
        assert (await http.ask("GET", "/ws", None, **HANDSHAKE)).status == 200
        assert (await http.ask("GET", "/plain")).status == 200
        assert [seen.target for seen in app.seen] == ["/ws", "/plain"]


async def test_a_tunnel_on_which_nothing_moves_is_closed() -> None:
    """Pings keep it open, silence does not."""
    clock = ManualClock()
    async with (
        peer(switching(), whole_bodies=False) as app,  # type: ignore[arg-type]
        running([app], ROUTES, settings=SETTINGS, clock=clock) as gateway,
        client(gateway.port) as http,
    ):
        await ask_for_a_tunnel(http)
        clock.advance(100.0)
        await http.send(b"ping")
        async with asyncio.timeout(DEADLINE_S):
            assert await http.reader.readexactly(4) == b"PING"
        clock.advance(100.0)
        await http.send(b"ping")
        async with asyncio.timeout(DEADLINE_S):
            assert await http.reader.readexactly(4) == b"PING"
        clock.advance(121.0)
        assert await http.closed() == b""
        await until(lambda: len(gateway.records()) == 1)
        assert gateway.records()[0]["code"] == "tunnel_idle"


async def test_a_stop_cuts_tunnels_when_the_drain_ends() -> None:
    """They cannot be waited for: nobody knows when they end."""
    async with (
        peer(switching(), whole_bodies=False) as app,  # type: ignore[arg-type]
        running([app], ROUTES, settings=SETTINGS) as gateway,
        client(gateway.port) as http,
    ):
        await ask_for_a_tunnel(http)
        await gateway.gateway.stop()
        assert await http.closed() == b""
        assert gateway.records()[0]["code"] == "gateway_stopped"


async def test_a_client_that_does_not_read_stops_the_service() -> None:
    """Back-pressure through the tunnel: a flood is not swallowed into memory."""
    sent = 0

    async def flood(
        _seen: Seen, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        nonlocal sent
        writer.transport.set_write_buffer_limits(high=0)
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept_of(KEY.encode())
        )
        while sent < 96 * 1024 * 1024:
            writer.write(bytes(65536))
            await writer.drain()
            sent += 65536
        return False

    async with (
        peer(flood, whole_bodies=False) as app,
        running([app], ROUTES, settings=SETTINGS, clock=ManualClock()) as gateway,
        client(gateway.port, limit=1024) as http,
    ):
        await ask_for_a_tunnel(http)
        last, same = -1, 0
        async with asyncio.timeout(DEADLINE_S):
            while same < 100:
                same = same + 1 if sent == last else 0
                last = sent
                await asyncio.sleep(0.002)
        assert 0 < sent < 48 * 1024 * 1024
