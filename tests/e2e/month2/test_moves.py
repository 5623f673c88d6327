"""Slots move between the stack's servers while orders are placed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from month2_databases.orderbook import SLOT, TABLE
from month2_databases.orderload import place_orders
from month2_databases.resharding.command import MoverSettings, move, status
from month2_databases.stack import Stack, read_description, start_stack
from month2_databases.topology import SHARDS, SPARE
from scalelab.lab.runtime import Runtime

SLOTS = "0-31"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A private stack with no orders."""
    with Runtime(tmp_path_factory.mktemp("month2"), private=True) as runtime:
        yield start_stack(runtime)


@pytest.mark.timeout(240)
async def test_slots_move_to_the_spare_server_while_orders_go_on(stack: Stack) -> None:
    """No order is refused or lost, none is there twice, and the spare server has its slots."""
    told = read_description(stack.runtime.root)
    settings = MoverSettings(
        maps=told["maps"]["shard-map"],
        shards={name: told["superusers"][name] for name in (*SHARDS, SPARE)},
        tables=f"{TABLE}:{SLOT}",
        grace_s=0.5,
    )
    before = await place_orders(stack.url, 300, 100)
    during, moved = await asyncio.gather(
        place_orders(stack.url, 600, 100), move(settings, SLOTS, SPARE)
    )
    after = await place_orders(stack.url, 100, 100)
    assert (moved["step"], moved["target"]) == ("done", SPARE)
    assert [one.refused for one in (before, during, after)] == [0, 0, 0]
    shown = await status(settings)
    assert (shown["claimed"][SPARE], shown["owned_twice"]) == (SLOTS, {})
    async with httpx.AsyncClient(base_url=stack.url, timeout=30) as client:
        shards = (await client.get("/api/v1/shards")).json()
    assert shards["orders"][SPARE] > 0
    assert sum(shards["orders"].values()) == before.stored + during.stored + after.stored == 1000
