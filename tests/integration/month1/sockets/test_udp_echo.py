"""The UDP echo with real sockets: losses are counted, never invented and never hidden."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

import pytest

from month1_caching_gateway.sockets import (
    Tally,
    UdpEchoServer,
    echo_datagrams,
    encode,
    open_receiver,
    parse,
)
from scalelab.errors import Unavailable

HOST = "127.0.0.1"
PATIENCE_S = 10.0

pytestmark = pytest.mark.anyio


async def test_one_at_a_time_all_come_back() -> None:
    """A window of one is the simplest back-pressure; the kernel's buffer always has room."""
    async with UdpEchoServer(receive_buffer=2048) as server:
        account = await echo_datagrams(
            HOST, server.port, run=1, count=300, size=200, window=1, patience_s=PATIENCE_S
        )
        assert (account.sent, account.received, account.lost) == (300, 300, 0)
        assert (account.duplicated, account.reordered) == (0, 0)
        assert server.traffic.bytes == 300 * 200


async def test_what_the_buffer_cannot_hold_is_lost_and_counted() -> None:
    """A receiver that reads nothing for a while: the rest of the burst is gone, without an error
    on either side, and the account is exact."""
    with (
        open_receiver((HOST, 0), 4096) as slow,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        sender.connect(slow.getsockname())
        for number in range(500):
            assert sender.send(encode(1, number, 200)) == 200
        tally = Tally(1)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    arrived = parse(slow.recv(2048))
                except BlockingIOError:
                    if tally.received:
                        break
                    await asyncio.sleep(0.005)
                else:
                    assert arrived.number is not None
                    tally.note(arrived.number)
    account = tally.count(500)
    assert account.lost > 400
    assert account.received + account.lost == 500
    assert account.received >= 2


async def test_echoes_of_an_old_run_and_rubbish_are_not_counted() -> None:
    """A peer that answers with a copy, another run's number and rubbish beside the echo."""
    loop = asyncio.get_running_loop()

    class Noisy(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.DatagramTransport", transport)

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            number = parse(data).number
            assert number is not None
            for answer in (b"rubbish", encode(99, number, 100), data, data):
                self.transport.sendto(answer, addr)

    transport, _ = await loop.create_datagram_endpoint(Noisy, local_addr=(HOST, 0))
    try:
        port = transport.get_extra_info("sockname")[1]
        account = await echo_datagrams(
            HOST, port, run=1, count=50, size=100, window=1, patience_s=PATIENCE_S
        )
    finally:
        transport.close()
    assert (account.received, account.lost) == (50, 0)
    # The copy of the last echo may come after the run has ended.
    assert 49 <= account.duplicated <= 50


async def test_a_closed_port_is_said_to_be_closed() -> None:
    """On loopback the kernel tells: the error of one datagram comes with the next call."""
    with open_receiver((HOST, 0), None) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(Unavailable):
        await echo_datagrams(HOST, port, run=1, count=5, size=50, window=1, patience_s=PATIENCE_S)


async def test_a_flood_does_not_starve_the_loop() -> None:
    """A turn takes a bounded number of datagrams; what else is due runs in between."""
    async with UdpEchoServer(per_turn=4) as server:
        loop = asyncio.get_running_loop()
        turns = 0

        def other() -> None:
            nonlocal turns
            turns += 1
            if server.traffic.received < 40:
                loop.call_soon(other)

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect((HOST, server.port))
            for number in range(40):
                sender.send(encode(1, number, 100))
            loop.call_soon(other)
            async with asyncio.timeout(PATIENCE_S):
                while server.traffic.received < 40:  # noqa: ASYNC110 -- turns are the subject
                    await asyncio.sleep(0)
        assert turns >= 10
