"""Orders of many users, placed at an order book by a few callers at once."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass

import aiohttp

from scalelab.errors import Unavailable


@dataclass(slots=True)
class PlacedOrders:
    """How many were answered 201, how many not, and how many shards have stored one."""

    stored: int = 0
    refused: int = 0
    shards: int = 0


async def place_orders(url: str, number: int, users: int, *, callers: int = 16) -> PlacedOrders:
    """Place `number` orders of `users` users at the order book at `url`, under fresh keys.

    Raises Unavailable if nobody answers there.
    """
    run = secrets.token_hex(4)
    seen: set[str] = set()
    told = PlacedOrders()
    numbers = iter(range(number))
    timeout = aiohttp.ClientTimeout(total=30)

    async def caller(session: aiohttp.ClientSession) -> None:
        for one in numbers:
            body = {"user_id": f"user-{one % users}", "amount_cents": 100 + one % 900}
            headers = {"Idempotency-Key": f"{run}-{one}"}
            async with session.post(f"{url}/api/v1/orders", json=body, headers=headers) as answer:
                if answer.status == 201:
                    told.stored += 1
                    seen.add(answer.headers["X-Shard"])
                else:
                    told.refused += 1

    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(caller(session))
    except* (aiohttp.ClientError, TimeoutError) as errors:
        raise Unavailable(f"{url} did not answer: {errors.exceptions[0]}") from errors
    told.shards = len(seen)
    return told
