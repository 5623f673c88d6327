"""Levels of several warehouses over HTTP: real doors, one of which is away or stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from month3_messaging.experiments.rest_serving import serving_rest
from month3_messaging.fan import (
    HedgePolicy,
    Hedging,
    ScatterSettings,
    StockFan,
    Warehouse,
    Why,
)
from month3_messaging.rpc import RestStock, StockCalls, StockDesk
from scalelab.clients.http import HttpClient
from scalelab.clock import SystemClock

pytestmark = pytest.mark.anyio
LONG_S = 60.0


async def open_stock(stack: AsyncExitStack, port: int) -> RestStock:
    """A client of the door on that port."""
    http = HttpClient(f"http://127.0.0.1:{port}", connect_timeout_s=LONG_S)
    return RestStock(await stack.enter_async_context(http))


async def open_door(stack: AsyncExitStack, free: dict[str, int]) -> RestStock:
    """A warehouse of its own behind the REST door."""
    desk = StockDesk(free, SystemClock())
    return await open_stock(stack, await stack.enter_async_context(serving_rest(desk)))


class Silent:
    """A listener that takes connections and says nothing. hung_up: one of them is gone."""

    def __init__(self) -> None:
        self.hung_up = asyncio.Event()

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[int, None]:
        """Yields the port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(4096):
                pass
        except OSError:
            pass
        self.hung_up.set()
        writer.close()


async def open_silent(stack: AsyncExitStack) -> tuple[StockCalls, Silent]:
    """A warehouse that never answers."""
    silent = Silent()
    port = await stack.enter_async_context(silent.listening())
    return await open_stock(stack, port), silent


async def closed_port() -> int:
    """A port on which nobody listens any more."""
    async with Silent().listening() as port:
        return port


async def test_all_warehouses_together_are_one_answer() -> None:
    """The sum over products; a product that a warehouse does not know counts nothing there."""
    async with AsyncExitStack() as stack:
        houses = {
            "north": Warehouse(await open_door(stack, {"pen": 3, "ink": 1})),
            "south": Warehouse(await open_door(stack, {"pen": 4})),
        }
        fan = StockFan(houses, SystemClock(), settings=ScatterSettings(LONG_S))
        availability = await fan.levels(["pen", "ink"], timeout_s=LONG_S)
    assert dict(availability.at_least) == {"pen": 7, "ink": 1}
    assert availability.gathered.complete


async def test_one_away_and_one_silent_leave_a_partial_answer() -> None:
    """Named with their reasons; the silent one's connection is hung up, not left behind."""
    async with AsyncExitStack() as stack:
        quiet, silent = await open_silent(stack)
        houses = {
            "north": Warehouse(await open_door(stack, {"pen": 3})),
            "silent": Warehouse(quiet),
            "away": Warehouse(await open_stock(stack, await closed_port())),
        }
        fan = StockFan(houses, SystemClock(), settings=ScatterSettings(3.0))
        availability = await fan.levels(["pen"], timeout_s=LONG_S)
        gathered = availability.gathered
        async with asyncio.timeout(LONG_S):
            await silent.hung_up.wait()
    assert gathered.answers == {"north": {"pen": 3}}
    assert {name: (one.why, one.code) for name, one in gathered.missing.items()} == {
        "silent": (Why.LATE, "part_late"),
        "away": (Why.FAILED, "peer_unavailable"),
    }
    assert [availability.has("pen", 3), availability.has("pen", 4)] == [True, None]


async def test_a_replica_answers_for_a_silent_warehouse() -> None:
    """Hedged: complete although one door says nothing, and the loser is hung up."""
    async with AsyncExitStack() as stack:
        quiet, silent = await open_silent(stack)
        replica = await open_door(stack, {"pen": 3})
        fan = StockFan(
            {"north": Warehouse(quiet, replica)},
            SystemClock(),
            settings=ScatterSettings(LONG_S),
            hedging=Hedging(HedgePolicy(first_delay_s=0.05)),
        )
        gathered = (await fan.levels(["pen"], timeout_s=LONG_S)).gathered
        async with asyncio.timeout(LONG_S):
            await silent.hung_up.wait()
    assert (gathered.answers, gathered.rescued) == ({"north": {"pen": 3}}, 1)
