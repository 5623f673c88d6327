"""One of three services is away for a while. What becomes of the orders placed meanwhile?

First as a chain of REST calls, then as events with outbox and inbox, over the same books.
Inventory, the last in the chain, is stopped while a number of orders is placed, and started again.
Orders are counted; the times of the customers' answers are told and not judged.
"""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import psycopg
from fastapi import APIRouter

from month3_messaging import inbox, outbox
from month3_messaging.experiments.app_serving import serving_url
from month3_messaging.moves import (
    DDL,
    PARTS,
    ChainedOrders,
    Part,
    Safe,
    Tally,
    charge,
    place,
    reserve,
    service_router,
    tally,
)
from month3_messaging.workers import ConsumerMetrics, EventConsumer
from scalelab.clients.http import HttpClient
from scalelab.clients.kafka import ensure_topics
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.errors import ScalelabError
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result, Role
from scalelab.lab.servers import Kafka, Postgres
from scalelab.telemetry import Telemetry, TelemetrySettings, build_telemetry
from scalelab.web import create_app
from scalelab.web.background import Background

AROUND = 5  # orders before the outage, and after it
DURING_QUICK = (0, 10, 20)
DURING_FULL = (0, 50, 100, 200)
_WITHIN_S = 90.0


@dataclass(frozen=True, slots=True)
class Seen:
    """refused: placements that the customer saw fail. waiting: orders that were open when the
    service came back. p99_ms: of the answers to customers."""

    end: Tally
    refused: int
    waiting: int
    p99_ms: float


class Customers:
    """Place orders one after the other; count refusals and time the answers."""

    def __init__(self) -> None:
        self.refused = 0
        self._took_ms: list[float] = []

    async def place(self, number: int, place_one: Callable[[], Awaitable[object]]) -> None:
        for _ in range(number):
            began_s = time.perf_counter()
            try:
                await place_one()
            except ScalelabError:
                self.refused += 1
            self._took_ms.append((time.perf_counter() - began_s) * 1000)

    @property
    def p99_ms(self) -> float:
        return sorted(self._took_ms)[int(0.99 * (len(self._took_ms) - 1))]


def _telemetry(service: str) -> Telemetry:
    return build_telemetry(TelemetrySettings(service=service), stream=io.StringIO())


@asynccontextmanager
async def serving_router(router: APIRouter, name: str) -> AsyncGenerator[str]:
    """A service on a free port until the block ends; yields its URL."""
    telemetry = _telemetry(name)
    try:
        async with serving_url(create_app(telemetry=telemetry, routers=[router])) as url:
            yield url
    finally:
        telemetry.shutdown()


async def chained(dsn: str, during: int) -> Seen:
    """Orders by calls. While inventory is away its address answers nobody."""
    customers = Customers()
    async with (
        Database(PostgresSettings(dsn), name="moves") as database,
        serving_router(service_router(database, charge), "payments") as payments_url,
        HttpClient(payments_url, timeout_s=30.0) as payments,
    ):
        for number, there in ((AROUND, True), (during, False), (AROUND, True)):
            async with AsyncExitStack() as stack:
                async with AsyncExitStack() as until_away:
                    router = service_router(database, reserve)
                    url = await until_away.enter_async_context(serving_router(router, "inventory"))
                    if there:
                        stack.push_async_exit(until_away.pop_all())
                inventory = await stack.enter_async_context(HttpClient(url, timeout_s=30.0))
                orders = ChainedOrders(database, payments, inventory)
                await customers.place(number, orders.place)
        return Seen(await tally(database), customers.refused, 0, customers.p99_ms)


async def told(dsn: str, bootstrap: str, topic: str, during: int) -> Seen:
    """Orders by events. While inventory is away its consumer does not run."""
    await ensure_topics(bootstrap, {topic: 3})
    telemetry, customers, background = _telemetry("moves"), Customers(), Background()
    metrics = ConsumerMetrics(telemetry.registry)
    payments, inventory, orders = PARTS
    async with Database(PostgresSettings(dsn), name="moves") as database:
        way = Safe(database, topic)

        def consumer(part: Part) -> EventConsumer:
            return EventConsumer(
                bootstrap,
                f"{topic}.{part.service}",
                [topic],
                {part.hears: way.handler(part)},
                telemetry=telemetry,
                metrics=metrics,
            )

        async def until(holds: Callable[[Tally], bool]) -> Tally:
            async with asyncio.timeout(_WITHIN_S):
                while not holds(found := await tally(database)):  # noqa: ASYNC110 - on a server
                    await asyncio.sleep(0.02)
            return found

        relay = outbox.keep_relaying(
            database,
            bootstrap,
            client_id=topic,
            metrics=outbox.RelayMetrics(telemetry.registry),
            log=telemetry.log,
        )
        async with background.running(relay), consumer(payments), consumer(orders):
            async with consumer(inventory):
                await customers.place(AROUND, lambda: place(way))
                await until(lambda now: now.confirmed == AROUND)
            await customers.place(during, lambda: place(way))
            # Payments goes on meanwhile: what it has charged waits for inventory on the topic.
            waiting = await until(lambda now: now.charged_unconfirmed == during)
            async with consumer(inventory):
                await customers.place(AROUND, lambda: place(way))
                end = await until(lambda now: now.confirmed == now.placed)
    telemetry.shutdown()
    return Seen(end, customers.refused, waiting.charged_unconfirmed, customers.p99_ms)


def run(lab: Lab) -> Result:
    """Outages of growing length, each arm on a database of its own."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it tells of every rebalance
    postgres = Postgres("moves-postgres", settings={"fsync": "off", "full_page_writes": "off"})
    kafka = Kafka("moves-kafka")
    lab.runtime.start(postgres, kafka)

    def database(name: str) -> str:
        dsn = postgres.ensure_database(name, name)
        with psycopg.connect(dsn) as conn:
            conn.execute((DDL + inbox.DDL + outbox.DDL).encode())
        return dsn

    chain: dict[int, Seen] = {}
    events: dict[int, Seen] = {}
    for during in DURING_QUICK if lab.quick else DURING_FULL:
        chain[during] = asyncio.run(chained(database(f"chain_{during}"), during))
        lab.note(f"chain, {during} orders meanwhile: {chain[during]}")
        topic = f"events_{during}"
        events[during] = asyncio.run(told(database(topic), kafka.bootstrap, topic, during))
        lab.note(f"events, {during} orders meanwhile: {events[during]}")
    return judged(chain, events)


def judged(chain: dict[int, Seen], events: dict[int, Seen]) -> Result:
    """Arms and claims. Keys: orders that were placed during the outage."""
    return Result(
        arms=(
            _arm("REST chain", "control", chain),
            _arm("events, outbox and inbox", "treatment", events),
            Arm("theory: every call meets the outage", "theory", {}, _line({n: n for n in chain})),
        ),
        shape=(
            Claim(
                "the chain fails every order of the outage, and no other",
                all(one.refused == one.end.failed == n for n, one in chain.items()),
                f"failed by orders meanwhile: { {n: one.end.failed for n, one in chain.items()} }",
            ),
            Claim(
                "each of them has been charged, and nobody will confirm it",
                all(one.end.charged_unconfirmed == n for n, one in chain.items()),
                f"charged, not confirmed:"
                f" { {n: one.end.charged_unconfirmed for n, one in chain.items()} }",
            ),
            Claim(
                "with events no order is refused and none is lost",
                all(
                    (one.refused, one.end.confirmed) == (0, 2 * AROUND + n)
                    for n, one in events.items()
                ),
                f"confirmed: { {n: one.end.confirmed for n, one in events.items()} }",
            ),
            Claim(
                "the orders of the outage are late instead: all are open when it ends",
                all(one.waiting == n for n, one in events.items()),
                f"open at the end of the outage: { {n: one.waiting for n, one in events.items()} }",
            ),
            Claim(
                "nobody is charged twice or left charged in the end",
                all(
                    (one.end.charged_unconfirmed, one.end.charged_twice) == (0, 0)
                    for one in events.values()
                ),
                f"{[one.end.charged_twice for one in events.values()]} charged twice",
            ),
        ),
        plot=Plot(
            Axis("orders placed while inventory is away"), Axis("orders not confirmed in the end")
        ),
        notes=(
            "An answer of the chain says `confirmed` or `failed`; one of the events says `placed`, "
            "which is why it is quicker: the times compare two different promises.",
            "A service that hangs instead of refusing costs the chain its time-out as well, for"
            " each order.",
        ),
    )


def _line(of: dict[int, int]) -> tuple[tuple[float, float], ...]:
    return tuple((float(x), float(y)) for x, y in of.items())


def _arm(name: str, role: Role, seen: dict[int, Seen]) -> Arm:
    most = seen[max(seen)]
    return Arm(
        name,
        role,
        {
            "placed": most.end.placed,
            "failed": most.end.failed,
            "charged_unconfirmed": most.end.charged_unconfirmed,
            "late": most.waiting,
            "answer_p99_ms": round(most.p99_ms, 1),
        },
        _line({n: one.end.placed - one.end.confirmed for n, one in seen.items()}),
    )


EXPERIMENT = Experiment(
    slug="sync-to-async",
    question="One of three services is away for a while: what becomes of the orders meanwhile?",
    varied="REST calls in a chain or events with outbox and inbox; how many orders meet the outage",
    fixed="services, books, the order of the steps, which service is away",
    run=run,
    topics=("P10.1",),
    needs=("postgres", "kafka"),
)
