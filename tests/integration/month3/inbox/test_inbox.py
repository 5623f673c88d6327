"""The inbox on a real PostgreSQL: an effect happens once, whoever else has the event."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from month3_messaging.inbox import first_time, first_times, purge
from scalelab.clients.postgres import Database


async def carry_out(database: Database, event_id: UUID, *, fails: bool = False) -> bool:
    """One effect under the inbox; returns whether it was carried out."""
    async with database.transaction() as conn:
        if not await first_time(conn, "tester", event_id):
            return False
        await conn.execute("INSERT INTO effect (event_id) VALUES (%s)", (event_id,))
        if fails:
            raise ConnectionError("the handler fails after its effect")
        return True


async def effects(database: Database) -> int:
    async with database.autocommit() as conn:
        cursor = await conn.execute("SELECT count(*) FROM effect")
        row = await cursor.fetchone()
        return int(row[0]) if row else 0


async def test_racing_deliveries_have_one_effect(database: Database) -> None:
    """Eight transactions hold the same event at once: one carries it out."""
    event_id = uuid4()
    done = await asyncio.gather(*(carry_out(database, event_id) for _ in range(8)))
    assert sorted(done) == [False] * 7 + [True]
    assert await effects(database) == 1


async def test_a_failed_effect_leaves_no_trace_and_may_be_tried_again(database: Database) -> None:
    """The row rolls back with the effect."""
    event_id = uuid4()
    with suppress(ConnectionError):
        await carry_out(database, event_id, fails=True)
    assert await effects(database) == 0
    assert await carry_out(database, event_id)


async def test_a_second_transaction_waits_for_the_first_ones_outcome(database: Database) -> None:
    """Rolled back means it is the second's turn, not that the event is lost."""
    event_id = uuid4()
    second: asyncio.Task[bool] | None = None
    with suppress(ConnectionError):
        async with database.transaction() as conn:
            assert await first_time(conn, "tester", event_id)
            second = asyncio.create_task(carry_out(database, event_id))
            await asyncio.sleep(0)
            raise ConnectionError("rolled back")
    assert second is not None
    assert await second


async def test_consumers_do_not_share_what_they_have_seen(database: Database) -> None:
    """The pair (consumer, event id) is unique, not the event id."""
    event_id = uuid4()
    async with database.transaction() as conn:
        assert await first_time(conn, "one", event_id)
        assert await first_time(conn, "two", event_id)
        assert not await first_time(conn, "one", event_id)


async def test_purge_forgets_old_rows_in_bounded_batches(database: Database) -> None:
    """At most `limit` rows a call, and none younger than the bound."""
    async with database.transaction() as conn:
        for _ in range(5):
            await first_time(conn, "tester", uuid4())
    async with database.autocommit() as conn:
        past = datetime.now(UTC) - timedelta(hours=1)
        future = datetime.now(UTC) + timedelta(hours=1)
        assert await purge(conn, before=past) == 0
        assert await purge(conn, before=future, limit=3) == 3
        assert await purge(conn, before=future, limit=3) == 2


async def test_of_many_events_the_new_ones_are_named(database: Database) -> None:
    """Known ids and copies in the same call are not; another consumer has not met any."""
    known, new = [uuid4() for _ in range(3)], [uuid4() for _ in range(3)]
    async with database.transaction() as conn:
        assert await first_times(conn, "tester", known) == set(known)
    async with database.transaction() as conn:
        assert await first_times(conn, "tester", [*new, *known, *new]) == set(new)
        assert await first_times(conn, "tester", []) == set()
        assert await first_times(conn, "another", known) == set(known)


async def test_many_events_that_roll_back_are_new_to_who_waited(database: Database) -> None:
    """A second transaction with some of the ids waits, and has the turn of the first."""
    ids = [uuid4() for _ in range(4)]
    waiting: asyncio.Task[frozenset[UUID]] | None = None

    async def second() -> frozenset[UUID]:
        async with database.transaction() as conn:
            return await first_times(conn, "tester", ids[1:])

    with suppress(ConnectionError):
        async with database.transaction() as conn:
            assert await first_times(conn, "tester", ids[:3]) == set(ids[:3])
            waiting = asyncio.create_task(second())
            await asyncio.sleep(0)
            raise ConnectionError("rolled back")
    assert waiting is not None
    assert await waiting == set(ids[1:])


async def test_batches_with_the_same_events_in_another_order_do_not_wait_in_a_circle(
    database: Database,
) -> None:
    """Four transactions at once, the ids forwards and backwards: each id is new to one of them."""
    ids = [uuid4() for _ in range(3_000)]

    async def carry_out_all(order: list[UUID]) -> frozenset[UUID]:
        async with database.transaction() as conn:
            return await first_times(conn, "tester", order)

    found = await asyncio.gather(*(carry_out_all(ids[::step]) for step in (1, -1, 1, -1)))
    assert sorted(map(len, found)) == [0, 0, 0, len(ids)]
