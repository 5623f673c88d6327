"""The stack's orders leave off the database's log, and off the table whenever that cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from month3_messaging.outbox import SlotPlace, drop_slot
from month3_messaging.stack import Stack, let_follow_log, services_of
from scalelab.clients.http import HttpClient
from scalelab.lab.servers.service import Service
from tests.e2e.month3.crowd import carry_out
from tests.integration.month3.messaging_bed import poll_until

pytestmark = pytest.mark.timeout(400)

WORKER, FOLLOWER, SLOT = "orders-worker", "orders-follower", "orders_outbox"


@dataclass
class Follower:
    """A worker that was told to follow the log, in the place of the stack's own."""

    stack: Stack
    service: Service

    async def metric(self, name: str) -> float:
        """A metric of its relay; 0 where it was never set."""
        async with HttpClient(self.service.url, timeout_s=30.0) as http:
            text = (await http.get("/metrics")).body.decode()
        values = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"scalelab_outbox_{name}"
        ]
        return sum(values)

    async def follows(self) -> bool:
        return await self.metric("following_log") == 1

    async def slot_made_at(self) -> Any:
        """When the slot that is there was made."""
        dsn = self.stack.postgres.superuser_dsn("orders")
        async with await psycopg.AsyncConnection[Any].connect(dsn, autocommit=True) as conn:
            cursor = await conn.execute(
                "SELECT made_at FROM outbox_slot JOIN pg_replication_slots USING (slot_name)"
                " WHERE slot_name = %s",
                (SLOT,),
            )
            row = await cursor.fetchone()
        return row and row[0]

    async def drop(self) -> None:
        """Take the slot away from under whoever reads it."""
        dsn = self.stack.postgres.superuser_dsn("orders")
        async with await psycopg.AsyncConnection[Any].connect(dsn, autocommit=True) as conn:
            await drop_slot(conn, SlotPlace(dsn, SLOT, "orders"))


@pytest.fixture
async def follower(stack: Stack) -> AsyncIterator[Follower]:
    """Its role may not make a slot yet. Afterwards the stack is as it was."""
    [told] = [
        spec
        for spec in services_of(stack.addresses, {"ORDERS_WORKER_RELAY": "log"})
        if spec.name == WORKER
    ]
    port = stack.runtime.port(FOLLOWER, 8302)
    spec = replace(
        told, name=FOLLOWER, port=port, env={**told.env, "ORDERS_WORKER_PORT": str(port)}
    )
    await asyncio.to_thread(stack.runtime.stop, WORKER)
    service = await asyncio.to_thread(stack.runtime.service, spec)
    made = Follower(stack, service)
    try:
        yield made
    finally:
        await asyncio.to_thread(stack.runtime.stop, FOLLOWER)
        await made.drop()
        with psycopg.connect(stack.postgres.superuser_dsn(), autocommit=True) as conn:
            conn.execute("ALTER ROLE orders NOREPLICATION")
        await asyncio.to_thread(stack.runtime.restart, WORKER)


async def test_orders_leave_off_the_log_and_off_the_table_when_it_cannot_be_followed(
    stack: Stack, http: HttpClient, follower: Follower
) -> None:
    """Without the privilege the table is polled; with it the log is followed; the slot is dropped
    with orders under way, and a new one is followed. Every order ends, and the books balance."""

    async def orders_end(subject: str, number: int) -> None:
        placed, grown = await carry_out(stack, http, subject, number)
        assert len(placed.accepted) == number, placed.refused
        assert not placed.still_open
        assert grown["kept_minor"] == placed.confirmed_minor
        assert grown["taken"] == grown["promised"]

    await orders_end("polled", 5)
    assert not await follower.follows()
    sent = await follower.metric("sent_total")
    assert sent > 0
    await asyncio.to_thread(let_follow_log, stack.postgres, "orders")
    await poll_until(follower.follows, "the log is followed")
    await orders_end("followed", 10)
    assert await follower.follows()
    assert await follower.metric("sent_total") > sent
    first_made_at = await follower.slot_made_at()
    assert first_made_at

    async def follows_another() -> bool:
        made_at = await follower.slot_made_at()
        return made_at not in (None, first_made_at) and await follower.follows()

    async with asyncio.TaskGroup() as group:
        group.create_task(orders_end("dropped", 10))
        await follower.drop()
    await poll_until(follows_another, "a new slot is followed")
    await orders_end("again", 5)
