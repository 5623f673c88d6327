"""The log relay and its slot: lost, given up, forbidden; it reads the table and loses nothing."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from month3_messaging.outbox import (
    LogRelaySettings,
    SlotLimits,
    append,
    drop_slot,
    look_at_slot,
)
from scalelab.clients.postgres import Database
from scalelab.lab.servers import Postgres
from tests.integration.month3.messaging_bed import make_event, poll_until, read_topic
from tests.integration.month3.relay_bed import (
    OWNER,
    Relays,
    everything_sent,
    first_copies,
    is_confirmed,
    position,
)


async def write(database: Database, topic: str, *numbers: int) -> None:
    for number in numbers:
        async with database.transaction() as conn:
            await append(conn, make_event("key", number), topic)


async def test_the_log_is_followed_and_its_slot_has_an_owner(
    log_relays: Relays, database: Database, topic: str
) -> None:
    """Events come off the log; the slot is read, and somebody is written down for it."""
    async with log_relays.running():
        await poll_until(log_relays.are_following, "the relay follows the log")
        await write(database, topic, 0, 1, 2)
        await poll_until(lambda: everything_sent(database), "sent")
        async with database.autocommit() as conn:
            state = await look_at_slot(conn, log_relays.place)
    assert state is not None
    assert (state.is_active, state.owner) == (True, OWNER)
    records = await read_topic(log_relays.bootstrap, topic, lambda seen: len(seen) >= 3)
    assert first_copies(records) == {"key": [0, 1, 2]}


async def test_a_slot_dropped_under_a_running_relay_is_made_again(
    log_relays: Relays, database: Database, topic: str
) -> None:
    """What commits while there is no slot is read off the table; then the log is followed again."""
    async with log_relays.running():
        await poll_until(log_relays.are_following, "the relay follows the log")
        await write(database, topic, 0)
        await poll_until(lambda: everything_sent(database), "sent off the log")
        async with database.autocommit() as conn:
            await drop_slot(conn, log_relays.place)
        await write(database, topic, 1, 2)
        await poll_until(lambda: everything_sent(database), "sent without the old slot")

        async def is_there_again() -> bool:
            async with database.autocommit() as conn:
                state = await look_at_slot(conn, log_relays.place)
            return state is not None and state.is_active

        await poll_until(is_there_again, "a new slot is followed")
        await write(database, topic, 3)
        await poll_until(lambda: everything_sent(database), "sent off the new slot")
    records = await read_topic(log_relays.bootstrap, topic, lambda seen: len(seen) >= 4)
    assert first_copies(records) == {"key": [0, 1, 2, 3]}


async def test_rows_written_while_no_relay_ran_and_the_slot_went_are_sent(
    log_relays: Relays, database: Database, topic: str
) -> None:
    """No relay, then no slot, then rows: the log never had them for us, the table has."""
    async with log_relays.running():
        await poll_until(log_relays.are_following, "the slot is there")
    async with database.autocommit() as conn:
        await drop_slot(conn, log_relays.place)
    await write(database, topic, 0, 1, 2)
    async with log_relays.running():
        await poll_until(lambda: everything_sent(database), "sent off the table")
    records = await read_topic(log_relays.bootstrap, topic, lambda seen: len(seen) >= 3)
    assert first_copies(records) == {"key": [0, 1, 2]}


async def test_a_slot_over_its_cap_is_given_up_by_a_relay_that_waits(
    log_relays: Relays, database: Database, topic: str
) -> None:
    """S2: the active relay is frozen (here: somebody else has its lock); a waiting one measures
    the slot and drops it, so that the disk is safe. The rows go once the lock is free."""
    async with log_relays.running():
        await poll_until(log_relays.are_following, "the slot is there")
    capped = LogRelaySettings(limits=SlotLimits(kept_max_bytes=1))
    async with database.dedicated() as holder:
        await holder.execute("SELECT pg_advisory_lock(2829, 1)")
        await write(database, topic, 0)
        async with log_relays.running(log_settings=capped):

            async def is_given_up() -> bool:
                return log_relays.metric("scalelab_outbox_slots_lost_total") >= 1

            await poll_until(is_given_up, "the slot is given up")
            async with database.autocommit() as conn:
                assert await look_at_slot(conn, log_relays.place) is None
    async with log_relays.running():
        await poll_until(lambda: everything_sent(database), "sent by the next relay")


async def test_without_the_right_to_replicate_the_relay_polls(
    log_relays: Relays, database: Database, tables_dsn: str, topic: str, postgres_server: Postgres
) -> None:
    """L2: no slot can be made; every event is sent all the same."""
    role = conninfo_to_dict(tables_dsn)["user"]
    with psycopg.connect(postgres_server.superuser_dsn(), autocommit=True) as conn:
        conn.execute(f"ALTER ROLE {role} NOREPLICATION".encode())
    async with log_relays.running():
        await write(database, topic, 0, 1, 2)
        await poll_until(lambda: everything_sent(database), "sent by polling")
        assert not await log_relays.are_following()
    records = await read_topic(log_relays.bootstrap, topic, lambda seen: len(seen) >= 3)
    assert first_copies(records) == {"key": [0, 1, 2]}


async def test_a_busy_database_with_a_quiet_outbox_keeps_no_log(
    log_relays: Relays, database: Database
) -> None:
    """Other tables are written, the outbox is not: the slot moves on with what the server says."""

    async with log_relays.running():
        await poll_until(log_relays.are_following, "the relay follows the log")
        async with database.transaction() as conn:
            await conn.execute(
                "INSERT INTO effect (key, number) SELECT 'x', n FROM generate_series(1, 2000) n"
            )
        written_to = await position(database)
        await poll_until(
            lambda: is_confirmed(log_relays, written_to),
            "the slot has moved past the other table's changes",
        )


@pytest.mark.parametrize("name", ["", "Orders", "a-b", "x" * 64, "a b"])
def test_a_name_no_slot_can_bear_is_refused(name: str) -> None:
    from month3_messaging.outbox.slot import check_name
    from scalelab.errors import InvalidInput

    with pytest.raises(InvalidInput):
        check_name(name)
