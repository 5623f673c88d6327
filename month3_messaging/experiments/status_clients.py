"""Four ways in which a customer hears of orders, as its programs would; each counts what it asks.

A way is opened for orders of which the customer has version 1. `next` gives the versions that came
next, in order; it waits until there are some.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol
from uuid import UUID

import aiohttp

from month3_messaging.experiments.status_bed import Orders
from month3_messaging.status import PATH

_WAIT_S = 30.0


class Way(Protocol):
    """requests: made so far."""

    requests: int

    async def next(self) -> list[int]: ...


Opened = Callable[[Orders, UUID], AbstractAsyncContextManager[Way]]


class Asking:
    """Polling, or long polling where `look` may wait. empty: answers without news."""

    def __init__(self, orders: Orders, order_id: UUID) -> None:
        self._orders = orders
        self._url = f"{orders.url}/{order_id}/status"
        self.last = 1
        self.requests = 0
        self.empty = 0

    async def look(self, *, wait_s: float = 0.0) -> list[int]:
        """The versions since the last look; none if there are none within `wait_s`."""
        self.requests += 1
        asked = {"after": str(self.last), "wait_s": str(wait_s)}
        async with self._orders.client.get(
            self._url, params=asked, headers=self._orders.bearer
        ) as answer:
            answer.raise_for_status()
            told = await answer.json()
        self.last = told["last"]
        self.empty += not told["changes"]
        return [change["version"] for change in told["changes"]]

    async def next(self) -> list[int]:
        """A look that is kept waiting, and another if it waited in vain."""
        while not (versions := await self.look(wait_s=_WAIT_S)):
            pass
        return versions


class _Stream:
    """Server-sent events: one request, and then only answers."""

    requests = 1

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._lines = answer.content

    async def next(self) -> list[int]:
        while not (line := await self._lines.readline()).startswith(b"id:"):
            if not line:
                raise AssertionError("the stream ended")
        return [int(line.removeprefix(b"id:"))]


class Socket:
    """A WebSocket, which can follow many orders. requests: the handshake."""

    requests = 1

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def follow(self, order_id: UUID) -> None:
        """Say that the order is wanted, from version 1 on."""
        await self._socket.send_json({"type": "follow", "order_id": str(order_id), "after": 1})

    async def next(self) -> list[int]:
        """The version in the next message."""
        told: dict[str, Any] = json.loads(await self._socket.receive_str())
        return [told["version"]]


@asynccontextmanager
async def long_polling(orders: Orders, order_id: UUID) -> AsyncGenerator[Way]:
    """Asking, and being kept waiting."""
    yield Asking(orders, order_id)


@asynccontextmanager
async def streaming(orders: Orders, order_id: UUID) -> AsyncGenerator[Way]:
    """Server-sent events of one order."""
    headers = {**orders.bearer, "Last-Event-ID": "1"}
    async with orders.client.get(f"{orders.url}/{order_id}/events", headers=headers) as answer:
        answer.raise_for_status()
        yield _Stream(answer)


@asynccontextmanager
async def connected(orders: Orders) -> AsyncGenerator[Socket]:
    """A WebSocket that follows nothing yet."""
    url = f"ws://127.0.0.1:{orders.live.port}{PATH}"
    async with orders.client.ws_connect(url, headers=orders.bearer) as socket:
        yield Socket(socket)


@asynccontextmanager
async def following(orders: Orders, order_id: UUID) -> AsyncGenerator[Way]:
    """A WebSocket that follows one order."""
    async with connected(orders) as socket:
        await socket.follow(order_id)
        yield socket
