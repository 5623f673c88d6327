"""Replicas die, freeze, crash and stay away; readers keep their promises, the disk its room."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from month2_databases.replication import (
    ANY_REPLICA,
    READ_YOUR_WRITES,
    ClientSession,
    Reading,
    ReadRouted,
    ServerRole,
    SessionRouter,
    SlotAlert,
    SlotPolicy,
    SlotTrouble,
    judge_slots,
    read_slots,
)
from month2_databases.replication.replay_positions import ask
from month2_databases.replication.same_server import SameServer
from scalelab.clock import SystemClock

if TYPE_CHECKING:
    from month2_databases.experiments.replicated import Replicated
    from scalelab.lab.runtime import Runtime

Wait = Callable[..., Awaitable[None]]
Broken = tuple["Runtime", "Replicated"]
KEEP_MB = 64
SEGMENT_MB = 16
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_slot_wal_keep_size": f"{KEEP_MB}MB",
    "max_wal_size": f"{4 * SEGMENT_MB}MB",
}


@pytest.fixture(scope="module")
def broken(server_root: Path) -> Iterator[Broken]:
    """A cluster to be broken; each test leaves it whole."""
    from month2_databases.experiments.replicated import start_replicated
    from scalelab.lab.runtime import Runtime

    with Runtime(server_root / "broken", private=True, is_disposable=True) as runtime:
        yield runtime, start_replicated(runtime, "broken", settings=SETTINGS)


@asynccontextmanager
async def routing(broken: Broken, events: list[ReadRouted]) -> AsyncGenerator[SessionRouter]:
    router = SessionRouter(
        broken[1].settings,
        token_keys=[b"k" * 32],
        clock=SystemClock(),
        poll_s=0.02,
        read_timeout_s=2.0,
        hooks=[events.append],
    )
    async with router:
        yield router


async def put(session: ClientSession, key: str, value: int) -> None:
    async with session.write() as writing:
        await writing.execute(
            "INSERT INTO note (k, v) VALUES (%s, %s) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
            (key, value),
        )


async def own(session: ClientSession, key: str) -> int:
    async def work(reading: Reading) -> int:
        row = await reading.fetch_one("SELECT v FROM note WHERE k = %s", (key,))
        assert row is not None
        return row[0]

    return await session.run(READ_YOUR_WRITES, work)


def answering(router: SessionRouter) -> int:
    return sum(view.position is not None for view in router.cluster.views())


@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_replicas_that_are_gone_or_frozen_cost_no_read(
    broken: Broken, wait_until: Wait, fault: str
) -> None:
    """One, then both, without a warning: every own read is answered, and none is stale."""
    runtime = broken[0]
    events: list[ReadRouted] = []
    strike = runtime.kill if fault == "kill" else runtime.pause
    heal = runtime.restart if fault == "kill" else runtime.resume
    key = uuid.uuid4().hex
    async with routing(broken, events) as router:
        session = router.session()
        await put(session, key, 0)
        await wait_until(lambda: answering(router) == 2, what="both replicas answer")
        struck: list[str] = []
        try:
            for value, name in enumerate(("broken-r1", "broken-r2"), start=1):
                await asyncio.to_thread(strike, name)
                struck.append(name)
                for turn in range(10):
                    await put(session, key, 100 * value + turn)
                    assert await own(session, key) == 100 * value + turn
            await wait_until(lambda: answering(router) == 0, what="both are given up")
            events.clear()
            assert await own(session, key) == 209
            assert [event.role for event in events] == [ServerRole.PRIMARY]
        finally:
            for name in struck:
                await asyncio.to_thread(heal, name)
        await wait_until(lambda: answering(router) == 2, what="both are back")

        async def on_a_replica() -> bool:
            assert await own(session, key) == 209
            return events[-1].role is ServerRole.REPLICA

        await wait_until(on_a_replica, what="a replica answers again")


async def replica_can_restart_from_here(replicated: Replicated, wait_until: Wait) -> None:
    """A checkpoint on the primary, replayed, and a restart point of replica 1 at it."""
    replicated.cluster.execute("CHECKPOINT")
    end = replicated.cluster.execute("SELECT pg_current_wal_lsn()::text")
    dsn = replicated.cluster.replica(1).superuser_dsn()
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:

        async def replayed() -> bool:
            query = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
            return (await (await conn.execute(query, (end,))).fetchone()) == (True,)

        await wait_until(replayed, what="the checkpoint is replayed")
        await conn.execute("CHECKPOINT")


async def test_what_was_polled_before_a_crash_is_not_believed_after_it(
    broken: Broken, wait_until: Wait
) -> None:
    """Killed, a replica comes back behind the place it had reached: it shows less than before.

    A commit it had shown is held back by a delay that was set since; a position polled in the
    life before says it is there, and only a connection of that life may believe it.
    """
    runtime, replicated = broken
    cluster, key = replicated.cluster, uuid.uuid4().hex
    dsn = replicated.settings.replicas[0].dsn
    clock = SystemClock()
    same_server = SameServer(clock)
    await replica_can_restart_from_here(replicated, wait_until)
    async with routing(broken, []) as router:
        session = router.session()
        await put(session, key, 1)
        floor = session.past.written
    assert floor is not None

    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:

        async def shows_it() -> bool:
            return await same_server.confirms(conn, "broken", floor)

        await wait_until(shows_it, what="the replica has it")
        polled = await ask(conn, clock.monotonic_s())
        assert polled is not None
        assert same_server.believes(conn, "broken", floor, polled) is True
        cluster.delay_replay(1, 600_000)
        try:
            await asyncio.to_thread(runtime.kill, "broken-r1")
            await asyncio.to_thread(runtime.restart, "broken-r1")
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as young:
                cursor = await young.execute("SELECT v FROM note WHERE k = %s", (key,))
                assert await cursor.fetchone() is None  # it did go back
                assert same_server.believes(young, "broken", floor, polled) is None
                assert not await same_server.confirms(young, "broken", floor)
                # It is known by now, and still younger than what was polled.
                assert same_server.believes(young, "broken", floor, polled) is None
        finally:
            cluster.delay_replay(1, 0)


async def test_a_quorum_waits_for_any_one_replica(broken: Broken, wait_until: Wait) -> None:
    """One away: commits go on. Both away: a commit waits, and is done when one is back."""
    runtime, replicated = broken
    cluster = replicated.cluster
    key = uuid.uuid4().hex

    def synchronous() -> bool:
        quorum = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'"
        return cluster.execute(quorum) == 2

    def waits() -> bool:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        return cluster.execute(waiting) == 1

    async with routing(broken, []) as router:
        cluster.set_synchronous(wanted=True)
        try:
            await wait_until(synchronous, what="both replicas are in the quorum")
            runtime.pause("broken-r1")
            await put(router.session(), key, 1)
            runtime.pause("broken-r2")
            waiting = asyncio.create_task(put(router.session(), key, 2))
            await wait_until(waits, what="a commit that waits")
            assert not waiting.done()
            runtime.resume("broken-r2")
            await waiting
        finally:
            runtime.resume("broken-r1")
            runtime.resume("broken-r2")
            cluster.set_synchronous(wanted=False)


async def slot_alerts(broken: Broken, policy: SlotPolicy) -> dict[str, list[SlotAlert]]:
    dsn = broken[1].cluster.primary.superuser_dsn()
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        alerts = judge_slots(*await read_slots(conn), policy)
    found: dict[str, list[SlotAlert]] = {}
    for alert in alerts:
        found.setdefault(alert.slot, []).append(alert)
    return found


async def test_a_slot_left_behind_is_told_and_does_not_fill_the_disk(
    broken: Broken, wait_until: Wait
) -> None:
    """Left behind, then too much, then lost; the primary's log stays small, and its owner is
    named. A replica that lost its slot is made anew from a base backup."""
    runtime, replicated = broken
    cluster = replicated.cluster
    policy = SlotPolicy(inactive_max_s=0.0, kept_share=0.25)

    def write_log(segments: int) -> None:
        for _ in range(segments):
            cluster.execute("SELECT pg_logical_emit_message(false, 'x', 'x')")
            cluster.execute("SELECT pg_switch_wal()")
        cluster.execute("CHECKPOINT")

    async def troubles() -> list[SlotTrouble]:
        return [alert.trouble for alert in (await slot_alerts(broken, policy)).get("broken_r1", [])]

    async def well() -> bool:
        return await troubles() == []

    async def left_behind() -> bool:
        return await troubles() == [SlotTrouble.LEFT_BEHIND]

    await wait_until(well, what="nothing to say of a slot in use")
    await asyncio.to_thread(runtime.stop, "broken-r1")
    try:
        await wait_until(left_behind, what="a slot nobody comes for")
        await asyncio.to_thread(write_log, 2)
        assert await troubles() == [SlotTrouble.KEEPS_TOO_MUCH, SlotTrouble.LEFT_BEHIND]
        await asyncio.to_thread(write_log, 2 * KEEP_MB // SEGMENT_MB)
        assert await troubles() == [SlotTrouble.LOST, SlotTrouble.LEFT_BEHIND]
        alerts = (await slot_alerts(broken, policy))["broken_r1"]
        assert {alert.owner for alert in alerts} == {"replica broken-r1"}
        kept = cluster.execute("SELECT sum(size) FROM pg_ls_waldir()")
        assert int(str(kept)) <= (2 * KEEP_MB + 5 * SEGMENT_MB) << 20
    finally:
        shutil.rmtree(cluster.replica(1).data_dir)
        await asyncio.to_thread(runtime.restart, "broken-r1")
    await wait_until(well, what="the replica made anew uses its slot")
    async with routing(broken, []) as router:
        await wait_until(lambda: answering(router) == 2, what="it may be read again")


async def test_a_slot_that_nobody_owns_is_told(broken: Broken) -> None:
    """Somebody made it by hand and went home."""
    cluster: Any = broken[1].cluster
    cluster.execute("SELECT pg_create_physical_replication_slot('stray', true)")
    try:
        (alert,) = (await slot_alerts(broken, SlotPolicy()))["stray"]
        assert (alert.trouble, alert.owner) == (SlotTrouble.NO_OWNER, None)
    finally:
        cluster.execute("SELECT pg_drop_replication_slot('stray')")


async def test_without_the_primary_replicas_go_on_answering(
    broken: Broken, wait_until: Wait
) -> None:
    """Reads without a past, and own reads that a replica covers."""
    runtime = broken[0]
    events: list[ReadRouted] = []
    key = uuid.uuid4().hex
    async with routing(broken, events) as router:
        session = router.session()
        await put(session, key, 1)

        def both_have_it() -> bool:
            views = router.cluster.views()
            return all(router.cluster.lag_bytes(view.name) == 0 for view in views)

        await wait_until(both_have_it, what="both replicas have it")
        await asyncio.to_thread(runtime.kill, "broken")
        try:
            assert await own(session, key) == 1
            async with session.read(ANY_REPLICA) as reading:
                assert await reading.fetch_one("SELECT 1") == (1,)
            assert {event.role for event in events} == {ServerRole.REPLICA}
        finally:
            await asyncio.to_thread(runtime.restart, "broken")
