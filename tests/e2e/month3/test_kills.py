"""Every process of the month's stack is killed under orders, one after the other, again and again.

Nothing is missing, doubled or out of order, and the money balances. The crowd and its books are
those of the other tests of the stack; the logs are read from their start at the end.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from random import Random

import psycopg
import pytest

from month3_messaging.broker import from_wire
from month3_messaging.orderload import Placed, follow, place_orders
from month3_messaging.orders import ORDERS_TOPIC
from month3_messaging.orders.saga import ANNOUNCED
from month3_messaging.stack import Stack
from scalelab.clients.http import HttpClient
from scalelab.clients.kafka import Record
from tests.e2e.month3.conftest import PRODUCTS
from tests.e2e.month3.crowd import books, token_of
from tests.e2e.month3.test_invoices import mailed
from tests.fixtures.tiers import Count
from tests.integration.month3.messaging_bed import poll_until, read_topic

pytestmark = pytest.mark.timeout(3600)

AT_ONCE = 3
ORDERS_A_ROUND = 12
ENDS_WITHIN_S = 300.0
SERVERS = ("postgres", "kafka", "redis")


async def kill(stack: Stack, name: str) -> None:
    """SIGKILL; a server of the stack is started again, our own processes come back themselves."""
    await asyncio.to_thread(stack.runtime.kill, name)
    if name in SERVERS:
        await asyncio.to_thread(stack.runtime.restart, name)


def processes(stack: Stack) -> list[str]:
    """Everything that runs now."""
    return sorted(one.name for one in stack.runtime.status() if one.state == "running")


async def under_fire(stack: Stack, http: HttpClient, victims: list[str], kills: int) -> Placed:
    """Orders while victims die, some at once; afterwards each is followed to its end."""
    random = Random(6)
    bearer = token_of(stack, "fire")
    placed = Placed()
    doomed = [
        one for _ in range(0, kills, len(victims)) for one in random.sample(victims, len(victims))
    ]
    for first in range(0, kills, AT_ONCE):
        async with asyncio.TaskGroup() as group:
            placing = group.create_task(
                place_orders(
                    http, bearer, ORDERS_A_ROUND, products=PRODUCTS, random=random, tries=1500
                )
            )
            for name in doomed[first : min(first + AT_ONCE, kills)]:
                group.create_task(kill(stack, name))
        some = placing.result()
        placed.accepted |= some.accepted
        placed.refused += some.refused
    await follow(http, bearer, placed, within_s=ENDS_WITHIN_S)
    return placed


def histories(stack: Stack, placed: Placed) -> dict[str, list[str]]:
    """Each order's statuses, in the order of their versions, which must have no hole."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    with psycopg.connect(stack.addresses.dsns["orders"]) as conn:
        rows = conn.execute(
            "SELECT order_id::text, version, status FROM order_history"
            " WHERE order_id = ANY (%s::uuid[]) ORDER BY order_id, version",
            (list(placed.accepted),),
        )
        for order_id, version, status in rows:
            found[order_id].append(status)
            assert version == len(found[order_id])
    return found


async def announced(stack: Stack, wanted: dict[str, list[str]]) -> dict[str, list[str]]:
    """Each order's events on the topic, first copies, in their order; waits for so many."""

    def first_copies(records: list[Record]) -> dict[str, list[str]]:
        found: defaultdict[str, list[str]] = defaultdict(list)
        seen: set[str] = set()
        for record in records:
            event = from_wire(record.headers, record.value or b"")
            if event.subject in wanted and str(event.id) not in seen:
                seen.add(str(event.id))
                found[event.subject].append(event.type.split(".")[2])
        return found

    many = sum(map(len, wanted.values()))
    records = await read_topic(
        stack.addresses.kafka_bootstrap,
        ORDERS_TOPIC,
        lambda seen: sum(map(len, first_copies(seen).values())) >= many,
    )
    return first_copies(records)


async def test_orders_survive_the_death_of_every_process(
    stack: Stack, http: HttpClient, lab_root: Path, count: Count
) -> None:
    """Every accepted order ends once: its history has no hole, its events stand on the topic in
    that order, its money and pieces are those of the books, and if confirmed it has its invoice."""
    victims = processes(stack)
    assert set(victims) > set(SERVERS)
    before = await books(stack)
    placed = await under_fire(stack, http, victims, count(100, share=0.11))
    assert not placed.refused
    assert not placed.still_open
    history = histories(stack, placed)
    assert history.keys() == placed.accepted.keys()
    for order_id, statuses in history.items():
        assert len(set(statuses)) == len(statuses)
        assert statuses[-1] == placed.ends[order_id]
    wanted = {
        order_id: ["placed", *(one for one in statuses if one in ANNOUNCED)]
        for order_id, statuses in history.items()
    }
    assert await announced(stack, wanted) == wanted
    after = await books(stack)
    grown = {name: after[name] - before[name] for name in after}
    confirmed = sum(end == "confirmed" for end in placed.ends.values())
    assert grown["kept_minor"] == placed.confirmed_minor
    assert grown["taken"] == grown["promised"] == confirmed
    found = await mailed(lab_root, placed)
    assert len({one["number"] for one in found}) == len(found) == confirmed

    async def all_are_back() -> bool:
        return processes(stack) == victims

    await poll_until(all_are_back, "every process is back")
