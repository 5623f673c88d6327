"""The slot is lost with the log it needs, or with its server: events are read off the table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from month3_messaging import outbox
from month3_messaging.outbox import append, look_at_slot
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Postgres
from scalelab.telemetry import Telemetry
from tests.integration.month3.messaging_bed import make_event, poll_until, read_topic
from tests.integration.month3.relay_bed import (
    Kind,
    Relays,
    everything_sent,
    first_copies,
    slot_place,
)

SMALL = {
    "fsync": "off",
    "full_page_writes": "off",
    "min_wal_size": "32MB",
    "max_wal_size": "48MB",
    "wal_keep_size": "0",
}


@dataclass
class Own:
    """A server of the test's own, to be broken."""

    runtime: Runtime
    primary: Postgres

    def dsn(self) -> str:
        made = self.primary.ensure_database("shop", "shop")
        with psycopg.connect(made) as conn:
            conn.execute(outbox.DDL)
        return made

    def as_superuser(self, *statements: str) -> None:
        with psycopg.connect(self.primary.superuser_dsn("shop"), autocommit=True) as conn:
            for statement in statements:
                conn.execute(statement.encode())


@pytest.fixture
def own(server_root: Path) -> Iterator[Own]:
    with Runtime(
        server_root / f"slots-{uuid4().hex[:8]}", private=True, is_disposable=True
    ) as runtime:
        primary = Postgres("primary", settings=SMALL)
        runtime.start(primary)
        yield Own(runtime, primary)


@asynccontextmanager
async def log_relays_on(
    own: Own, dsn: str, bootstrap: str, telemetry: Telemetry
) -> AsyncIterator[Relays]:
    place = slot_place(own.primary, own.primary.dsn("shop", "shop"))
    place = outbox.SlotPlace(dsn, place.name, place.owner)
    async with Database(PostgresSettings(dsn), name="shop") as database:
        yield Relays(Kind.LOG, database, bootstrap, place, telemetry)


async def write(database: Database, topic: str, *numbers: int) -> None:
    for number in numbers:
        async with database.transaction() as conn:
            await append(conn, make_event("key", number), topic)


@pytest.mark.timeout(180)
async def test_a_slot_whose_log_the_server_dropped_costs_no_event(
    own: Own, kafka_bootstrap: str, topic: str, telemetry: Telemetry
) -> None:
    """No relay for too long: the server lets the slot be lost. The next relay says so, makes it
    anew, and sends what waits in the table."""
    dsn = own.dsn()
    async with log_relays_on(own, dsn, kafka_bootstrap, telemetry) as relays:
        async with relays.running():
            await write(relays.database, topic, 0)
            await poll_until(lambda: everything_sent(relays.database), "sent off the log")
            await poll_until(relays.are_following, "the log is followed")
        await write(relays.database, topic, 1, 2)
        await asyncio.to_thread(
            own.as_superuser,
            "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'",
            "SELECT pg_reload_conf()",
        )
        fill = "SELECT pg_logical_emit_message(false, 'x', repeat('x', 200000))"
        switch = ["SELECT pg_switch_wal()", "CHECKPOINT"]
        await asyncio.to_thread(own.as_superuser, *([fill, *switch] * 4))
        async with relays.database.autocommit() as conn:
            state = await look_at_slot(conn, relays.place)
        assert state is not None
        assert state.wal_status == "lost", "the fault bit"
        async with relays.running():
            await poll_until(lambda: everything_sent(relays.database), "sent off the table")
            await poll_until(relays.are_following, "a new slot is followed")
            assert relays.metric("scalelab_outbox_slots_lost_total") >= 1
            await write(relays.database, topic, 3)
            await poll_until(lambda: everything_sent(relays.database), "sent off the new slot")
    records = await read_topic(kafka_bootstrap, topic, lambda seen: len(seen) >= 4)
    assert first_copies(records) == {"key": [0, 1, 2, 3]}


@pytest.mark.timeout(180)
async def test_after_a_failover_the_relay_goes_on_at_the_new_primary(
    own: Own, kafka_bootstrap: str, topic: str, telemetry: Telemetry
) -> None:
    """The primary is killed with rows unsent, and its slot dies with it: the replica that takes
    over has the rows and no slot."""
    own.dsn()
    replica = own.primary.add_replica("replica")
    await asyncio.to_thread(own.runtime.start, replica)
    await asyncio.to_thread(own.primary.set_synchronous, ["replica"])
    word = own.primary.password("shop")
    dsn = (
        f"host=127.0.0.1,127.0.0.1 port={own.primary.port},{replica.port} dbname=shop"
        f" user=shop password={word} target_session_attrs=read-write"
    )
    async with log_relays_on(own, dsn, kafka_bootstrap, telemetry) as relays:
        async with relays.running():
            await write(relays.database, topic, 0)
            await poll_until(lambda: everything_sent(relays.database), "sent at the old primary")
            await poll_until(relays.are_following, "the log is followed")
        await write(relays.database, topic, 1, 2)
        await asyncio.to_thread(own.runtime.kill, "primary")
        with psycopg.connect(replica.superuser_dsn(), autocommit=True) as conn:
            conn.execute("SELECT pg_promote()")
            conn.execute("ALTER SYSTEM RESET synchronous_standby_names")
            conn.execute("SELECT pg_reload_conf()")
        async with relays.running():
            await poll_until(lambda: everything_sent(relays.database), "sent off the table")
            await poll_until(relays.are_following, "a slot of the new primary is followed")
            await write(relays.database, topic, 3)
            await poll_until(lambda: everything_sent(relays.database), "sent off its log")
    records = await read_topic(kafka_bootstrap, topic, lambda seen: len(seen) >= 4)
    assert first_copies(records) == {"key": [0, 1, 2, 3]}


@pytest.mark.timeout(180)
async def test_a_commit_that_waits_for_its_replica_is_not_published_yet(
    own: Own, kafka_bootstrap: str, topic: str, telemetry: Telemetry
) -> None:
    """L4: the log shows the row before anyone may see it, and a failover could still undo it."""
    dsn = own.dsn()
    async with log_relays_on(own, dsn, kafka_bootstrap, telemetry) as relays, relays.running():
        await poll_until(relays.are_following, "the log is followed")
        await asyncio.to_thread(own.primary.set_synchronous, ["ghost"])
        waiting = asyncio.create_task(write(relays.database, topic, 1))

        async def waits() -> bool:
            with psycopg.connect(own.primary.superuser_dsn()) as conn:
                row = conn.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
                ).fetchone()
            return bool(row and row[0])

        await poll_until(waits, "the commit waits for a replica")
        # An event of somebody who does not wait is behind it in the log, and passes. It comes
        # without a notification: the lock on those is held by the commit that waits.
        quiet = outbox.APPEND.replace("pg_notify('outbox', '')", "id")
        async with relays.database.dedicated() as conn:
            await conn.execute("SET synchronous_commit TO local")
            await conn.execute(quiet.encode(), outbox.to_append(make_event("other", 2), topic))
        records = await read_topic(kafka_bootstrap, topic, lambda seen: len(seen) >= 1)
        assert first_copies(records) == {"other": [2]}
        await asyncio.to_thread(own.primary.set_synchronous, [])
        await waiting
        records = await read_topic(kafka_bootstrap, topic, lambda seen: len(seen) >= 2)
    assert first_copies(records) == {"other": [2], "key": [1]}
