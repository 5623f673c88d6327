"""An upstream that carries so much: what is over is shed, and the important goes first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from month1_caching_gateway.gateway import (
    Endpoint,
    GatewaySettings,
    Route,
    Rules,
    Upstream,
)
from month1_caching_gateway.gateway.gate import Shed
from scalelab.resilience.adaptive_limit import LimitPolicy
from scalelab.resilience.waiting_room import RoomPolicy
from tests.integration.month1.gateway.harness import (
    Peer,
    Running,
    Seen,
    client,
    peer,
    plain,
    running,
    until,
)

ONE_AT_A_TIME = LimitPolicy(initial=1, minimum=1, maximum=1)


def rules(app: Peer, shed: Shed) -> Rules:
    upstream = Upstream("app", (Endpoint("127.0.0.1", app.port),), shed=shed)
    routes = tuple(
        Route("app", prefix=f"/{name}", auth="none", priority=name)
        for name in ("critical", "normal", "sheddable")
    )
    return Rules(routes, (upstream,), {})


class Held:
    """Answers one request at a time, when it is let go."""

    def __init__(self) -> None:
        self.served: list[str] = []
        self.go = asyncio.Semaphore(0)

    async def __call__(
        self, seen: Seen, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        self.served.append(seen.target)
        await self.go.acquire()
        writer.write(plain(200, b"ok"))
        return True


@asynccontextmanager
async def shedding(held: Held, room: RoomPolicy) -> AsyncIterator[Running]:
    async with peer(held) as app, running([app], settings=GatewaySettings(sweep_s=0.01)) as gateway:
        gateway.gateway.apply(rules(app, Shed(ONE_AT_A_TIME, room)))
        yield gateway


async def test_over_the_limit_is_503_with_retry_after() -> None:
    """One runs, none may wait: the second hears `overloaded` at once."""
    held = Held()
    async with (
        shedding(held, RoomPolicy(seats=0)) as gateway,
        client(gateway.port) as first,
        client(gateway.port) as second,
    ):
        running_one = asyncio.create_task(first.ask("GET", "/normal"))
        await until(lambda: len(held.served) == 1)
        shed = await second.ask("GET", "/normal")
        assert (shed.status, shed.code) == (503, "overloaded")
        assert int(shed.headers["retry-after"]) >= 1
        held.go.release()
        assert (await running_one).status == 200
        assert gateway.metric("gateway_shed_requests", upstream="app") == 1
        held.go.release()
        assert (await second.ask("GET", "/normal")).status == 200


async def test_the_critical_goes_before_who_came_earlier_and_the_sheddable_goes_away() -> None:
    """Priorities are the routes'."""
    held = Held()
    room = RoomPolicy(seats=4, patience_s=15.0, crowded_s=15.0)
    async with (
        shedding(held, room) as gateway,
        client(gateway.port) as one,
        client(gateway.port) as two,
        client(gateway.port) as three,
        client(gateway.port) as four,
    ):
        tasks = [asyncio.create_task(one.ask("GET", "/normal/1"))]
        await until(lambda: len(held.served) == 1)
        tasks.append(asyncio.create_task(two.ask("GET", "/normal/2")))
        await until(lambda: waiting(gateway) == 1)
        tasks.append(asyncio.create_task(three.ask("GET", "/critical/3")))
        await until(lambda: waiting(gateway) == 2)
        assert (await four.ask("GET", "/sheddable")).code == "overloaded"
        for _ in tasks:
            held.go.release()
        assert [(await task).status for task in tasks] == [200, 200, 200]
        assert held.served == ["/normal/1", "/critical/3", "/normal/2"]


async def test_a_client_that_leaves_gives_its_turn_and_its_seat_back() -> None:
    """Nothing leaks: after all have gone the next request is served."""
    held = Held()
    room = RoomPolicy(seats=4, patience_s=15.0, crowded_s=15.0)
    async with shedding(held, room) as gateway:
        async with client(gateway.port) as one, client(gateway.port) as two:
            asked = [asyncio.create_task(http.ask("GET", "/normal")) for http in (one, two)]
            await until(lambda: waiting(gateway) == 1)
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        await until(lambda: waiting(gateway) == 0)
        held.go.release()
        held.go.release()
        async with client(gateway.port) as http:
            assert (await http.ask("GET", "/normal")).status == 200


async def test_who_waits_in_vain_is_told_so() -> None:
    """After its patience, not after the client's."""
    held = Held()
    room = RoomPolicy(seats=4, patience_s=0.05, crowded_s=0.05)
    async with (
        shedding(held, room) as gateway,
        client(gateway.port) as one,
        client(gateway.port) as two,
    ):
        first = asyncio.create_task(one.ask("GET", "/normal"))
        await until(lambda: len(held.served) == 1)
        assert (await two.ask("GET", "/normal")).code == "overloaded"
        held.go.release()
        assert (await first).status == 200


def waiting(gateway: Running) -> float:
    return gateway.metric("gateway_shed_waiting", upstream="app")
