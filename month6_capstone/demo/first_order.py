"""The first order of a demo: placed through the front door and watched until it is confirmed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp

from month6_capstone.load import PAYING_CARD, Shop, Shopper, Visit
from scalelab.clock import Clock
from scalelab.errors import Unavailable

_CONFIRMED_WITHIN_S = 60.0


async def place_and_watch(shop: Shop, shopper: Shopper, base_url: str, clock: Clock) -> str:
    """The id of an order that reached `confirmed`, seen by server-sent events.

    Raises Unavailable with what was seen last if that does not happen within a minute.
    """
    visit = Visit(0.0, 0, (), (("p-0001", 1),), PAYING_CARD, "first-order", sent_twice=False)
    placed = await shop.order(shopper, visit, clock.monotonic_s())
    if placed.order_id is None:
        raise Unavailable(f"the first order was answered with {placed.status}")
    seen = "nothing"
    try:
        async with asyncio.timeout(_CONFIRMED_WITHIN_S):
            async for status in watch(shop.session, base_url, shopper, placed.order_id):
                seen = status
                if status == "confirmed":
                    return placed.order_id
    except TimeoutError:
        pass
    raise Unavailable(f"the first order was not confirmed; its last status was {seen}")


async def watch(
    session: aiohttp.ClientSession, base_url: str, shopper: Shopper, order_id: str
) -> AsyncIterator[str]:
    """The statuses of an order as they happen; reconnects, resuming, until cancelled."""
    url = f"{base_url}/api/v1/orders/{order_id}/events"
    last = ""
    while True:
        headers = {"Authorization": f"Bearer {shopper.token}", "Accept": "text/event-stream"}
        if last:
            headers["Last-Event-ID"] = last
        timeout = aiohttp.ClientTimeout(total=None, sock_read=30)
        try:
            async with session.get(url, headers=headers, timeout=timeout) as answer:
                async for raw in answer.content:
                    line = raw.decode().rstrip("\n")
                    if line.startswith("id:"):
                        last = line[3:].strip()
                    elif line.startswith("data:"):
                        yield str(json.loads(line[5:])["status"])
        except (aiohttp.ClientError, TimeoutError):
            pass
        await asyncio.sleep(0.2)
