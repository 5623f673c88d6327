"""A customer watches an order. What does each way of hearing of it cost, and how late is it?

Time is counted in updates, not in seconds: a poller looks again after every k-th update, so what it
asks and what it misses meanwhile are exact. With k below 1 it looks several times between two
updates. The others are told: they have every update before the next is made. Requests are counted
at the client, bytes on a wire before the service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from fractions import Fraction

import aiohttp

from month3_messaging.experiments.counted_wire import Wire
from month3_messaging.experiments.status_bed import Orders, orders_on
from month3_messaging.experiments.status_clients import (
    Asking,
    Opened,
    Way,
    connected,
    following,
    long_polling,
    streaming,
)
from month3_messaging.orders import MIGRATIONS
from scalelab.clients.migrations import upgrade
from scalelab.lab.course.experiment import Arm, Axis, Cell, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import Postgres

LONG_POLL, STREAM, SOCKET = "long polling", "server-sent events", "WebSocket"
TOLD: Mapping[str, Opened] = {LONG_POLL: long_polling, STREAM: streaming, SOCKET: following}
PACES = (Fraction(8), Fraction(4), Fraction(2), Fraction(1), Fraction(1, 2), Fraction(1, 4))
"""Updates per look, k."""
ORDERS = 8
"""Watched at once, for the count of connections."""
_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One way. updates: made. empty: answers without news. behind: versions that the client lacked
    after each update, summed. versions: as heard, in that order."""

    updates: int
    requests: int
    empty: int
    behind: int
    bytes: int
    versions: tuple[int, ...]

    @property
    def staleness(self) -> float:
        """Versions behind, the mean over all updates."""
        return self.behind / self.updates

    @property
    def is_whole(self) -> bool:
        """Whether every version came once, ascending."""
        return self.versions == tuple(range(2, self.updates + 2))


def run(lab: Lab) -> Result:
    """Polling at six paces, then the three ways of being told, then eight orders at once."""
    postgres = Postgres("status-postgres", settings={"fsync": "off", "full_page_writes": "off"})
    lab.runtime.start(postgres)
    dsn = postgres.ensure_database("status", "status")
    upgrade(dsn, MIGRATIONS)
    return asyncio.run(_run(lab, dsn))


async def _run(lab: Lab, dsn: str) -> Result:
    updates = 64 if lab.quick else 512
    polled: dict[Fraction, Seen] = {}
    told: dict[str, Seen] = {}
    connections: dict[str, int] = {}
    async with orders_on(dsn) as orders:
        for pace in PACES:
            lab.note(f"polling, {pace} updates per look")
            polled[pace] = await _poll(orders, updates, pace)
        for name, opened in TOLD.items():
            lab.note(name)
            told[name] = await _be_told(orders, updates, name, opened)
        for name, opened in TOLD.items():
            lab.note(f"{name}, {ORDERS} orders at once")
            connections[name] = await _connections(orders, name, opened)
    return Result(
        arms=(
            _polling_arm(polled),
            _theory_arm(),
            *(_told_arm(name, one, connections[name]) for name, one in told.items()),
        ),
        shape=_claims(polled, told, connections),
        plot=Plot(Axis("requests per update", log=True), Axis("staleness (versions)")),
        notes=(
            "Bytes of HTTP and WebSocket, both ways, without TLS and TCP's own headers.",
            f"A stream and a socket ask once, at the beginning: one request in {updates} updates.",
            "An update is over when its transaction is; that who is told has it before the next "
            "is made is how the arms are run, and that all of it came is what is judged.",
        ),
    )


async def _poll(orders: Orders, updates: int, pace: Fraction) -> Seen:
    """Look once after every `pace`-th update, or so many times after each."""
    every, looks = max(1, int(pace)), max(1, int(1 / pace))
    asking = Asking(orders, await orders.place())
    behind, before = 0, orders.http.bytes
    versions: list[int] = []
    for made in range(1, updates + 1):
        await orders.move()
        for _ in range(looks if made % every == 0 else 0):
            versions += await asking.look()
        behind += made + 1 - asking.last
    spent = orders.http.bytes - before
    await orders.end()
    return Seen(updates, asking.requests, asking.empty, behind, spent, tuple(versions))


async def _be_told(orders: Orders, updates: int, name: str, opened: Opened) -> Seen:
    """Make an update, hear of it, make the next."""
    order_id = await orders.place()
    wire, versions = _wire(orders, name), [1]
    behind, before = 0, wire.bytes
    async with asyncio.timeout(_WITHIN_S + updates), opened(orders, order_id) as way:
        for made in range(1, updates + 1):
            hearing = asyncio.create_task(way.next())
            await orders.move()
            versions += await hearing
            behind += made + 1 - versions[-1]
        spent = wire.bytes - before
        requests = way.requests
    await orders.end()
    return Seen(updates, requests, 0, behind, spent, tuple(versions[1:]))


async def _connections(orders: Orders, name: str, opened: Opened) -> int:
    """Connections that a customer opens to be told of ORDERS orders."""
    order_ids = [await orders.place() for _ in range(ORDERS)]
    wire = _wire(orders, name)
    before = wire.connections
    async with (
        asyncio.timeout(_WITHIN_S),
        aiohttp.ClientSession() as client,
        AsyncExitStack() as stack,
    ):
        customer = replace(orders, client=client)
        if name == SOCKET:
            socket = await stack.enter_async_context(connected(customer))
            for order_id in order_ids:
                await socket.follow(order_id)
            hearing = [asyncio.create_task(_hear(socket, ORDERS))]
        else:
            ways = [await stack.enter_async_context(opened(customer, one)) for one in order_ids]
            hearing = [asyncio.create_task(_hear(way, 1)) for way in ways]
        await orders.move()
        await asyncio.gather(*hearing)
    await orders.end()
    return wire.connections - before


async def _hear(way: Way, number: int) -> None:
    """Return when `number` versions were heard of."""
    while number > 0:
        number -= len(await way.next())


def _wire(orders: Orders, name: str) -> Wire:
    return orders.live if name == SOCKET else orders.http


def _polling_arm(polled: Mapping[Fraction, Seen]) -> Arm:
    at_one = polled[Fraction(1)]
    return Arm(
        "polling once an update",
        "control",
        _figures(at_one, 1),
        tuple((one.requests / one.updates, one.staleness) for one in polled.values()),
    )


def _theory_arm() -> Arm:
    """r requests per update: (1/r - 1)/2 versions behind, none from one request on."""
    rates = [2 ** (exponent / 4) for exponent in range(-12, 9)]
    points = tuple((rate, max(0.0, (1 / rate - 1) / 2)) for rate in rates)
    return Arm("polling in theory", "theory", {}, points)


def _told_arm(name: str, told: Seen, connections: int) -> Arm:
    return Arm(
        name,
        "treatment",
        _figures(told, connections),
        ((told.requests / told.updates, told.staleness),),
    )


def _figures(seen: Seen, connections: int) -> dict[str, Cell]:
    return {
        "requests_per_update": round(seen.requests / seen.updates, 3),
        "bytes_per_update": round(seen.bytes / seen.updates),
        "versions_behind": seen.staleness,
        f"connections_for_{ORDERS}_orders": connections,
    }


def _claims(
    polled: Mapping[Fraction, Seen], told: Mapping[str, Seen], connections: Mapping[str, int]
) -> tuple[Claim, ...]:
    asked = {str(pace): one.requests for pace, one in polled.items()}
    late = {str(pace): one.staleness for pace, one in polled.items()}
    empty = {str(pace): one.empty for pace, one in polled.items()}
    requests = {name: one.requests for name, one in told.items()}
    each = {name: round(one.bytes / one.updates) for name, one in told.items()}
    at_one = polled[Fraction(1)]
    polled_bytes = round(at_one.bytes / at_one.updates)
    return (
        Claim(
            "polling asks 1/k times an update",
            all(one.requests * pace == one.updates for pace, one in polled.items()),
            f"{asked} requests for {at_one.updates} updates",
        ),
        Claim(
            "and is (k - 1)/2 versions behind, in the mean; none if it asks at least as often",
            all(one.staleness == max(0, (pace - 1) / 2) for pace, one in polled.items()),
            f"{late} versions",
        ),
        Claim(
            "asking more often than there are updates brings empty answers and nothing else",
            all(one.empty == one.requests - one.updates for k, one in polled.items() if k <= 1),
            f"{empty} empty answers",
        ),
        Claim(
            "long polling asks once an update, a stream and a socket once for all",
            requests == {LONG_POLL: at_one.updates, STREAM: 1, SOCKET: 1},
            f"{requests} requests",
        ),
        Claim(
            "every version comes once, ascending, whichever way it comes",
            all(one.is_whole for one in (*polled.values(), *told.values())),
            f"{ {name: len(one.versions) for name, one in told.items()} } versions",
        ),
        Claim(
            "an update costs at least three times the bytes where it has to be asked for",
            min(polled_bytes, each[LONG_POLL]) >= 3 * max(each[STREAM], each[SOCKET]),
            f"polling {polled_bytes}, {each} bytes an update",
        ),
        Claim(
            f"{ORDERS} orders take {ORDERS} connections over HTTP/1.1 and one WebSocket",
            connections == {LONG_POLL: ORDERS, STREAM: ORDERS, SOCKET: 1},
            f"{connections}",
        ),
    )


EXPERIMENT = Experiment(
    slug="status-delivery",
    question="What does it cost to hear of each status of an order, and how late does one hear?",
    varied="the way: polling at six paces, long polling, server-sent events, WebSocket",
    fixed="the service, its orders, one customer, updates made one after the other",
    run=run,
    topics=("C7", "C8", "M3.5"),
    needs=("PostgreSQL",),
)
