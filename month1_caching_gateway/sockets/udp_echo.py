"""UDP echo server and client: no connection, no order, no promise; everything is counted.

The server sends each datagram back to where it came from and keeps nothing. What does not fit in
the kernel's receive buffer while the server is busy is gone without a word on either side: the
kernel drops it. UDP has no back-pressure; a sender that wants some must build it from the echoes,
as `echo_datagrams` does with `window`.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from month1_caching_gateway.sockets.datagrams import Count, Tally, encode, parse
from scalelab.errors import CorruptData, InvalidInput, Unavailable

_LARGEST = 65_535


@dataclass(slots=True)
class Traffic:
    """What a server saw. unsent: echoes that the kernel's send buffer had no room for."""

    received: int = 0
    bytes: int = 0
    unsent: int = 0


class UdpEchoServer:
    """Echoes datagrams until `stop`. receive_buffer: asked of the kernel, in bytes.

    per_turn: datagrams taken in one turn of the event loop: a flood leaves other work alive.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        receive_buffer: int | None = None,
        per_turn: int = 64,
    ) -> None:
        if per_turn < 1:
            raise InvalidInput("a turn takes at least one datagram", field="per_turn")
        self._address = (host, port)
        self._receive_buffer = receive_buffer
        self._per_turn = per_turn
        self._socket: socket.socket | None = None
        self.traffic = Traffic()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listening().getsockname()[1])

    def start(self) -> None:
        """Bind and read in the running loop. Raises OSError if the address cannot be had."""
        self._socket = open_receiver(self._address, self._receive_buffer)
        asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def stop(self) -> None:
        """Close. What was not read yet is lost, as UDP allows. Repeatable."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _listening(self) -> socket.socket:
        if self._socket is None:
            raise Unavailable("the UDP echo server is not started")
        return self._socket

    def _readable(self) -> None:
        here = self._listening()
        for _ in range(self._per_turn):
            try:
                data, peer = here.recvfrom(_LARGEST)
            except (BlockingIOError, ConnectionError):  # empty, or an old peer's port is closed
                return
            self.traffic.received += 1
            self.traffic.bytes += len(data)
            try:
                here.sendto(data, peer)
            except OSError:  # no room, or no way back: never wait for one peer
                self.traffic.unsent += 1


def open_receiver(address: tuple[str, int], receive_buffer: int | None) -> socket.socket:
    """A bound, non-blocking UDP socket. Linux grants twice the bytes asked for, and counts its own
    bookkeeping against them: some hundred bytes a datagram."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if receive_buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        made.bind(address)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made


async def echo_datagrams(
    host: str,
    port: int,
    *,
    run: int,
    count: int,
    size: int,
    window: int,
    patience_s: float,
) -> Count:
    """Send `count` numbered datagrams and count the echoes.

    window: how many may be on their way at once; with a window no larger than what the receive
    buffer holds nothing is lost on loopback. patience_s: without any echo, after which what is on
    its way counts as lost. Raises Unavailable if the peer's port is closed.
    """
    if window < 1 or count < 1:
        raise InvalidInput("window and count are at least 1", field="window")
    loop = asyncio.get_running_loop()
    tally = Tally(run)
    on_the_way = sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.setblocking(False)
        here.connect((host, port))
        while sent < count or on_the_way:
            while sent < count and on_the_way < window:
                await _send(loop, here, encode(run, sent, size))
                sent, on_the_way = sent + 1, on_the_way + 1
            try:
                async with asyncio.timeout(patience_s):
                    data = await loop.sock_recv(here, _LARGEST)
            except TimeoutError:
                on_the_way = 0  # lost, or so late that it no longer counts
                continue
            except ConnectionRefusedError as error:
                raise Unavailable(f"nobody listens on {host}:{port}") from error
            if _is_new(data, tally):
                on_the_way = max(0, on_the_way - 1)
    return tally.count(sent)


async def _send(loop: asyncio.AbstractEventLoop, here: socket.socket, data: bytes) -> None:
    try:
        await loop.sock_sendall(here, data)
    except ConnectionRefusedError as error:
        raise Unavailable("nobody listens there") from error


def _is_new(data: bytes, tally: Tally) -> bool:
    """Count an echo of this run; False for a stranger's datagram, an old run's, or a copy."""
    try:
        arrived = parse(data)
    except CorruptData:
        return False
    if arrived.run != tally.run or arrived.number is None:
        return False
    return tally.note(arrived.number)
