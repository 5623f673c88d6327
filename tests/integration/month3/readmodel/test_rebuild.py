"""Rebuilding from a real log while orders come in, readers ask and processes die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from month3_messaging.crash_points import PROJECTOR_POINTS
from month3_messaging.experiments.mortal_process import Bed, project_orders
from month3_messaging.experiments.mortals import KILLED, Mortals
from month3_messaging.experiments.order_log import publish, some_orders
from month3_messaging.readmodel import Projecting, State, begin_rebuild, keep_projecting
from scalelab.clients.postgres import Database
from scalelab.errors import Conflict
from tests.integration.month3.messaging_bed import poll_until
from tests.integration.month3.readmodel.readmodel_bed import Rows, generations, rows_of, shown

pytestmark = pytest.mark.timeout(240)


@asynccontextmanager
async def projecting(work: Projecting) -> AsyncGenerator[None, None]:
    """Projectors that run until the block ends, and then leave."""
    stop = asyncio.Event()
    task = asyncio.create_task(keep_projecting(work, stop=stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def live_alone(database: Database) -> int | None:
    """The number of the live generation once it is the only one."""
    found = await generations(database)
    alone = len(found) == 1 and all(one.state is State.LIVE for one in found.values())
    return next(iter(found)) if alone else None


async def is_shown(database: Database, rows: Rows) -> bool:
    return await live_alone(database) is not None and await shown(database) == rows


class Watcher:
    """Reads the view again and again. less: reads in which something was missing or fell back."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: Rows = {}
        self.reads = 0
        self.less = 0

    async def look(self) -> None:
        """Read once."""
        now = await shown(self._database)
        self.reads += 1
        self.less += any(
            order not in now or now[order][2] < number
            for order, (_, _, number) in self._seen.items()
        )
        self._seen = now

    async def watch(self, stop: asyncio.Event) -> None:
        """Read until stopped."""
        while not stop.is_set():
            await self.look()


@asynccontextmanager
async def watched(database: Database) -> AsyncGenerator[Watcher, None]:
    """Reads during the whole block; it must have read at least once before the block ends."""
    watcher = Watcher(database)
    await watcher.look()
    stop = asyncio.Event()
    task = asyncio.create_task(watcher.watch(stop))
    try:
        yield watcher
    finally:
        stop.set()
        await task


async def test_a_rebuild_while_orders_come_in_ends_with_the_same_rows_and_shows_no_less(
    work: Projecting, views: Database
) -> None:
    """The first generation comes by itself; the second takes over, and the first is dropped."""
    before, during = some_orders(15), some_orders(10)
    await publish(work.bootstrap, work.topic, before)
    async with projecting(work):
        await poll_until(lambda: is_shown(views, rows_of(before)), "the first generation")
        async with watched(views) as watcher:
            assert await begin_rebuild(work) == 2
            await publish(work.bootstrap, work.topic, during)
            await poll_until(lambda: is_shown(views, rows_of([*before, *during])), "the second")
    assert await live_alone(views) == 2
    assert watcher.reads > 1
    assert watcher.less == 0


async def test_two_projectors_share_a_rebuild_and_one_may_leave(
    work: Projecting, views: Database
) -> None:
    """What one was reading the other takes over; every row is there."""
    before = some_orders(20)
    await publish(work.bootstrap, work.topic, before)
    async with projecting(work):
        async with projecting(work):
            await poll_until(lambda: is_shown(views, rows_of(before)), "the first generation")
            await begin_rebuild(work)
        await poll_until(lambda: is_shown(views, rows_of(before)), "the second generation")


@pytest.fixture
async def mortals(work: Projecting, view_dsn: str) -> AsyncIterator[Mortals]:
    """Projectors that die where they are told."""
    with Mortals(Bed(view_dsn, work.bootstrap, work.topic, "unused")) as running:
        yield running


async def test_projectors_killed_at_every_point_of_a_rebuild_lose_nothing_and_show_no_less(
    work: Projecting, views: Database, mortals: Mortals
) -> None:
    """After records came, before and after the commit of a batch, before and after the swap, after
    the drop: the next process goes on, and at the end the rows are those of the events."""
    events = some_orders(10)
    await publish(work.bootstrap, work.topic, events)
    async with projecting(work):
        await poll_until(lambda: is_shown(views, rows_of(events)), "the first generation")
    async with watched(views) as watcher:
        for point in PROJECTOR_POINTS:
            more = some_orders(2)
            events += more
            await begin_rebuild(work)
            await publish(work.bootstrap, work.topic, more)
            code = await asyncio.to_thread(mortals.run, project_orders, point)
            assert code == KILLED, f"the fault bit at {point}"
        mortals.start(project_orders)
        await poll_until(lambda: is_shown(views, rows_of(events)), "the last generation")
        mortals.kill()
        mortals.end()
    assert watcher.less == 0
    places = [p for one in (await generations(views)).values() for p in one.places.values()]
    assert sum(place.next_offset for place in places) == len(events)


async def test_a_log_that_lost_its_beginning_is_not_rebuilt_from(
    work: Projecting, views: Database
) -> None:
    """Readers keep the view they have: it knows more than the log does."""
    events = some_orders(5)
    await publish(work.bootstrap, work.topic, events)
    async with projecting(work):
        await poll_until(lambda: is_shown(views, rows_of(events)), "the first generation")
    await _trim(work)
    with pytest.raises(Conflict) as caught:
        await begin_rebuild(work)
    assert caught.value.stable_code == "log_is_trimmed"
    assert await live_alone(views) == 1
    assert await shown(views) == rows_of(events)


async def _trim(work: Projecting) -> None:
    """Delete the first record of every partition, as retention would."""
    admin = AIOKafkaAdminClient(bootstrap_servers=work.bootstrap)
    await admin.start()
    try:
        await admin.delete_records(
            {TopicPartition(work.topic, at): RecordsToDelete(1) for at in range(3)}
        )
    finally:
        await admin.close()
