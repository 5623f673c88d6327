"""A WebSocket listener on a shop, and clients of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import websockets

from month3_messaging.status import (
    PATH,
    Hub,
    SocketSettings,
    StatusSockets,
    serve_status_sockets,
)
from scalelab.clock import SystemClock
from tests.integration.month3.messaging_bed import DEADLINE_S
from tests.integration.month3.orders_bed import Shop, quiet_telemetry

CALM = SocketSettings(sweep_s=3600.0)
"""Nobody is judged unless the test says so."""


@dataclass
class Live:
    """A listener and where it is."""

    shop: Shop
    sockets: StatusSockets
    port: int

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}{PATH}"

    @asynccontextmanager
    async def client(self, user: str = "ann") -> AsyncGenerator[websockets.ClientConnection]:
        async with websockets.connect(
            self.url, additional_headers=self.shop.headers(user), open_timeout=DEADLINE_S
        ) as opened:
            yield opened


@asynccontextmanager
async def live_on(
    shop: Shop, *, hub: Hub | None = None, settings: SocketSettings = CALM
) -> AsyncGenerator[Live]:
    async with serve_status_sockets(
        hub or shop.hub,
        shop.sessions,
        shop.verifier,
        clock=SystemClock(),
        log=quiet_telemetry("status").log,
        settings=settings,
    ) as (sockets, port):
        yield Live(shop, sockets, port)


async def follow(client: websockets.ClientConnection, order_id: str, after: int = 0) -> None:
    await client.send(json.dumps({"type": "follow", "order_id": order_id, "after": after}))


async def said(client: websockets.ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE_S):
        return json.loads(await client.recv())


async def versions_until_end(client: websockets.ClientConnection) -> list[int]:
    """Versions of the one followed order, up to its end."""
    versions: list[int] = []
    while (message := await said(client))["type"] == "status":
        versions.append(message["version"])
    assert message["type"] == "ended"
    return versions


async def close_code(client: websockets.ClientConnection) -> tuple[int | None, str | None]:
    """How the server ended the connection."""
    async with asyncio.timeout(DEADLINE_S):
        await client.wait_closed()
    return client.close_code, client.close_reason
