"""Many WebSocket clients in one process that count what they are sent; the load of status.py.

A client asks for the upgrade, follows its orders, and then reads frames. It knows that a round is
over when it has met the round's version once for every order, so nothing that was lost, merged too
far or sent twice can pass for fast.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from month3_messaging.status import PATH

_WITHIN_S = 120.0
_AT_ONCE = 50
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="


@dataclass(slots=True)
class Rounds:
    """What all clients of a server wait for. left: frames with `version` still to come."""

    mark: bytes = b""
    left: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self, version: int, frames: int) -> None:
        """A round ends when so many frames with this version have come."""
        self.mark, self.left = b'"version":%d,' % version, frames
        self.over.clear()

    def met(self) -> None:
        """One of them is here."""
        self.left -= 1
        if self.left == 0:
            self.over.set()


class Client(asyncio.Protocol):
    """One connection. frames: data frames since the upgrade."""

    def __init__(self, rounds: Rounds, head: bytes) -> None:
        self._rounds = rounds
        self._head = head
        self._data = b""
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.frames = 0
        self.first: asyncio.Event = asyncio.Event()
        self.wanted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._head)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.open.done():
            self.open.set_exception(exc or ConnectionResetError("hung up on"))

    def data_received(self, data: bytes) -> None:
        data = self._data + data if self._data else data
        if not self.open.done():
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._data = data
                return
            if not data.startswith(b"HTTP/1.1 101 "):
                self.open.set_exception(ConnectionError(data[:200].decode()))
                return
            data = data[end + 4 :]
            self.open.set_result(None)
        self._data = self._frames(data)

    def _frames(self, data: bytes) -> bytes:
        """Count whole frames; what is left of the last one."""
        start, size = 0, len(data)
        while size - start >= 2:
            length, body = data[start + 1], start + 2
            if length == 126:
                if size - body < 2:
                    break
                length, body = int.from_bytes(data[body : body + 2], "big"), body + 2
            if size - body < length:
                break
            self.frames += 1
            if self.frames == self.wanted:
                self.first.set()
            if self._rounds.left and data.find(self._rounds.mark, body, body + length) >= 0:
                self._rounds.met()
            start = body + length
        return data[start:]

    def follow(self, order_ids: Sequence[str]) -> None:
        """Ask for the orders; the first status of each is awaited by `first`."""
        self.wanted = len(order_ids)
        for order_id in order_ids:
            self.transport.write(follow_frame(order_id))


def follow_frame(order_id: str) -> bytes:
    """A command, masked with zeros."""
    command = json.dumps({"type": "follow", "order_id": order_id}).encode()
    return bytes((0x81, 0x80 | len(command))) + b"\0\0\0\0" + command


class Served:
    """A server process and the clients on it."""

    def __init__(self, process: asyncio.subprocess.Process, told: dict[str, Any]) -> None:
        self._process = process
        self.pid = process.pid
        self.port: int = told["port"]
        self.orders: list[str] = told["orders"]
        self._token: str = told["token"]
        self.clients: list[Client] = []
        self.rounds = Rounds()
        self._version = 1

    async def ask(self, command: str) -> Any:
        """Have the server do something; what it says then."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command.encode() + b"\n")
        return json.loads(await self._process.stdout.readline())

    async def connect(self, number: int, *, following: int) -> None:
        """More clients, each of which follows the first `following` orders (0: is not asked)."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one() -> None:
            async with gate, asyncio.timeout(_WITHIN_S):
                client = await self._open()
                if following:
                    client.follow(self.orders[:following])
                    await client.first.wait()
                self.clients.append(client)

        await asyncio.gather(*(one() for _ in range(number)))

    async def _open(self) -> Client:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(
            lambda: Client(self.rounds, self.head), "127.0.0.1", self.port
        )
        await client.open
        return client

    @property
    def head(self) -> bytes:
        """A request for the upgrade."""
        return (
            f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {_KEY}\r\n"
            f"Authorization: {self._token}\r\n\r\n"
        ).encode()

    async def round(self, orders: int, times: int) -> None:
        """Move the first `orders` orders `times` versions on, and see the last one everywhere."""
        self._version = version = self._version + times
        self.rounds.begin(version, orders * len(self.clients))
        told = await self.ask(f"send {orders} {times}")
        if told != version:
            raise AssertionError(f"version {told} was sent, {version} is awaited")
        async with asyncio.timeout(_WITHIN_S):
            await self.rounds.over.wait()


@asynccontextmanager
async def served(role: str, dsn: str, orders: int) -> AsyncGenerator[Served]:
    """A server process of that role; it ends with the context."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench._status_arms",
        role,
        dsn,
        str(orders),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise RuntimeError(f"{role} did not start; its words are above")
    one = Served(process, json.loads(line))
    try:
        yield one
    finally:
        for client in one.clients:
            client.transport.abort()
        process.terminate()
        await process.wait()
