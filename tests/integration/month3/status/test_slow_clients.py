"""Clients that do not read, do not answer, or stay too long: bounded, and nobody else's trouble."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from uuid import UUID

from month3_messaging.orders import Status, StatusChange
from month3_messaging.status import (
    PATH,
    Pace,
    SocketSettings,
    StatusSockets,
    serve_status_sockets,
)
from month3_messaging.status.liveness import Verdict
from scalelab.clock import ManualClock
from tests.integration.month3.messaging_bed import DEADLINE_S, poll_until
from tests.integration.month3.orders_bed import Shop, quiet_telemetry
from tests.integration.month3.status.live_bed import (
    Live,
    close_code,
    follow,
    live_on,
    said,
)
from tests.integration.month3.status.moves import placed

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
FOREVER = 1e9


def frozen(pace: Pace) -> SocketSettings:
    return SocketSettings(sweep_s=3600.0, tick_s=None, pace=pace, write_high=8192, send_buffer=4096)


def listener(
    shop: Shop, clock: ManualClock, pace: Pace
) -> AbstractAsyncContextManager[tuple[StatusSockets, int]]:
    """The listener and its port, on a clock that the test moves."""
    return serve_status_sockets(
        shop.hub,
        shop.sessions,
        shop.verifier,
        clock=clock,
        log=quiet_telemetry("status").log,
        settings=frozen(pace),
    )


async def raw_client(live: Live, order_id: str) -> socket.socket:
    """A client that follows the order and then never reads; its own buffer is small."""
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    opened.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(opened, ("127.0.0.1", live.port))
    token = live.shop.headers("ann")["Authorization"]
    head = (
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nAuthorization: {token}\r\n\r\n"
    )
    await loop.sock_sendall(opened, head.encode())
    async with asyncio.timeout(DEADLINE_S):
        assert (await loop.sock_recv(opened, 4096)).startswith(b"HTTP/1.1 101 ")
    command = f'{{"type":"follow","order_id":"{order_id}"}}'.encode()
    mask = b"\0\0\0\0"
    await loop.sock_sendall(opened, bytes((0x81, 0x80 | len(command))) + mask + command)
    return opened


def flood(live: Live, order_id: str, first: int, last: int) -> None:
    """Updates as a hub would spread them, all in one go."""
    for version in range(first, last):
        change = StatusChange(version, Status.PAID, datetime(2026, 1, 1, tzinfo=UTC))
        live.sockets.followers.spread(UUID(order_id), change)


async def test_a_client_that_never_reads_delays_nobody(shop: Shop) -> None:
    """The reader has every state it waits for; what the other costs stops growing."""
    order_id = await placed(shop)
    settings = SocketSettings(sweep_s=3600.0, write_high=8192, send_buffer=4096)
    async with live_on(shop, settings=settings) as live, live.client() as reader:
        await follow(reader, order_id)
        assert (await said(reader))["version"] == 1
        stuck = await raw_client(live, order_id)
        try:
            most, version, rounds_stalled = 0, 2, 0
            while rounds_stalled < 300:  # 300 frames are four times the high-water mark
                flood(live, order_id, version, version + 10)
                version += 10
                rounds_stalled += live.sockets.stalled
                while (await said(reader))["version"] < version - 1:
                    pass
                most = max(most, live.sockets.waiting_bytes())
            # What waits is the high-water mark and a write beyond it.
            assert most <= 8192 + 1024
            assert live.sockets.connected == 2
        finally:
            stuck.close()


async def test_a_client_that_does_not_read_is_dropped_at_its_bound(shop: Shop) -> None:
    """After stall_s of taking nothing, on the listener's clock; the reader stays."""
    order_id = await placed(shop)
    clock = ManualClock(start=datetime.now(UTC))
    pace = Pace(heartbeat_s=FOREVER, silence_s=FOREVER, stall_s=30.0)
    async with listener(shop, clock, pace) as (sockets, port):
        live = Live(shop, sockets, port)
        stuck = await raw_client(live, order_id)
        try:

            async def following() -> bool:
                return sockets.followers.orders == 1

            await poll_until(following, "it follows")
            version = 2

            async def stalled() -> bool:
                nonlocal version
                flood(live, order_id, version, version + 500)
                version += 500
                return sockets.stalled == 1

            await poll_until(stalled, "its socket takes nothing")
            clock.advance(29.0)
            sockets.sweep_once()
            assert sockets.connected == 1
            clock.advance(1.0)
            sockets.sweep_once()

            async def gone() -> bool:
                return sockets.connected == 0 and sockets.followers.orders == 0

            await poll_until(gone, "it was dropped")
            assert sockets.ended[Verdict.TOO_SLOW] == 1
        finally:
            stuck.close()


async def test_a_client_is_asked_and_then_given_up(shop: Shop) -> None:
    """Silence is asked into; an answer is a sign of life; none within silence_s is the end."""
    clock = ManualClock(start=datetime.now(UTC))
    pace = Pace(heartbeat_s=10.0, silence_s=30.0, stall_s=FOREVER)
    async with listener(shop, clock, pace) as (sockets, port):
        live = Live(shop, sockets, port)
        async with live.client() as client:
            clock.advance(29.0)
            sockets.sweep_once()  # asks

            async def answered() -> bool:
                return sockets.heard_s == [29.0]

            await poll_until(answered, "the library answered the ping")
            clock.advance(29.0)
            assert sockets.connected == 1
            clock.advance(1.0)
            sockets.sweep_once()
            assert await close_code(client) == (1008, "silent")


async def test_a_connection_ends_with_its_token(shop: Shop) -> None:
    """The shop's tokens are good for 600 s; after that the client must bring another."""
    clock = ManualClock(start=datetime.now(UTC))
    pace = Pace(heartbeat_s=FOREVER, silence_s=FOREVER, stall_s=FOREVER)
    async with (
        listener(shop, clock, pace) as (sockets, port),
        Live(shop, sockets, port).client() as client,
    ):
        clock.advance(500.0)
        sockets.sweep_once()
        assert sockets.connected == 1
        clock.advance(101.0)
        sockets.sweep_once()
        assert await close_code(client) == (1008, "token_expired")


async def test_a_head_that_never_ends_is_hung_up_on(shop: Shop) -> None:
    """After handshake_s, whatever trickles in."""
    clock = ManualClock(start=datetime.now(UTC))
    pace = Pace(heartbeat_s=FOREVER, silence_s=FOREVER, stall_s=FOREVER)
    async with listener(shop, clock, pace) as (sockets, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nA: b\r\n")

        async def joined() -> bool:
            return sockets.connected == 1

        await poll_until(joined, "it is accepted")
        clock.advance(10.0)
        sockets.sweep_once()

        async def gone() -> bool:
            return sockets.connected == 0

        await poll_until(gone, "it was hung up on")
        writer.close()
