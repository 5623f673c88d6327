"""Slots move between the stack's servers while orders are placed."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from month2_databases.orderload import place_orders
from month2_databases.resharding.command import move, status
from month2_databases.stack import Stack, mover_settings
from month2_databases.topology import SPARE

SLOTS = "0-31"


@pytest.mark.timeout(240)
async def test_slots_move_to_the_spare_server_while_orders_go_on(stack: Stack) -> None:
    """No order is refused or lost, none is there twice, and the spare server has its slots."""
    settings = mover_settings(stack.runtime.root).model_copy(update={"grace_s": 0.5})
    empty = await shards_of(stack)
    assert (empty["slots"][SPARE], empty["orders"][SPARE]) == (0, 0)
    before = await place_orders(stack.url, 300, 100)
    during, moved = await asyncio.gather(
        place_orders(stack.url, 600, 100), move(settings, SLOTS, SPARE)
    )
    after = await place_orders(stack.url, 100, 100)
    assert (moved["step"], moved["target"]) == ("done", SPARE)
    assert [one.refused for one in (before, during, after)] == [0, 0, 0]
    shown = await status(settings)
    assert (shown["claimed"][SPARE], shown["owned_twice"]) == (SLOTS, {})
    full = await shards_of(stack)
    assert full["orders"][SPARE] > 0
    stored = before.stored + during.stored + after.stored
    assert sum(full["orders"].values()) - sum(empty["orders"].values()) == stored == 1000


async def shards_of(stack: Stack) -> dict[str, Any]:
    """Slots and orders by shard, as the order book tells them."""
    async with httpx.AsyncClient(base_url=stack.url, timeout=30) as client:
        return (await client.get("/api/v1/shards")).json()
