"""Generations on a real database: folding once, swapping level, and who waits for whom."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID

import pytest

from month3_messaging.experiments.order_log import PATHS, events_of, some_orders
from month3_messaging.orders import Status
from month3_messaging.readmodel import (
    Projecting,
    State,
    count_by_status,
    drop_retired,
    find,
    fold_records,
    list_of_user,
    try_swap,
)
from month3_messaging.readmodel.generations_postgres import begin, swap
from scalelab.clients.postgres import Database
from scalelab.errors import CorruptData, InvalidInput, NotFound, Unavailable
from tests.integration.month3.messaging_bed import poll_until
from tests.integration.month3.readmodel.readmodel_bed import Log, generations, shown


async def begun(work: Projecting, log: Log) -> int:
    async with work.database.transaction() as conn:
        return await begin(conn, log.ends())


async def built(work: Projecting, log: Log) -> int:
    """A generation that holds the whole log and is live."""
    number = await begun(work, log)
    if log.records:
        await fold_records(work, number, log.records)
    assert await try_swap(work, number)
    return number


def a_log(partitions: int = 1) -> Log:
    """Every path, one order each, in partition 0."""
    log = Log(partitions)
    log.add(some_orders(1))
    return log


async def test_nobody_is_shown_a_view_before_the_first_generation_has_caught_up(
    offline: Projecting, views: Database
) -> None:
    """Unavailable, and no empty list, until its targets are reached."""
    log = a_log()
    number = await begun(offline, log)
    await fold_records(offline, number, log.records[:-1])
    assert not await try_swap(offline, number)
    async with views.autocommit(read_only=True) as conn:
        with pytest.raises(Unavailable) as caught:
            await list_of_user(conn, "ann")
    assert caught.value.stable_code == "read_model_not_built"
    await fold_records(offline, number, log.records[-1:])
    assert await try_swap(offline, number)
    assert len(await shown(views)) == len(PATHS)


async def test_the_view_says_what_the_events_said(offline: Projecting, views: Database) -> None:
    """Orders of one user, newest first; one with its whole history; numbers by status."""
    log = Log()
    ann = events_of(PATHS[3])
    log.add([*ann, *events_of(PATHS[1], "bob"), *events_of(PATHS[1])])
    await built(offline, log)
    async with views.autocommit(read_only=True) as conn:
        mine = await list_of_user(conn, "ann")
        [last] = await list_of_user(conn, "ann", before=mine[0].order_id)
        one = await find(conn, UUID(ann[0].subject))
        numbers = await count_by_status(conn)
    assert len(mine) == 2
    assert mine[0].order_id > mine[1].order_id
    assert last == mine[1]
    assert one is not None
    assert one.entered == tuple(zip(PATHS[3], (event.time for event in ann), strict=True))
    assert one in mine
    assert numbers == {Status.REFUNDED: 1, Status.CONFIRMED: 2}


async def test_an_order_without_its_placing_is_not_shown(
    offline: Projecting, views: Database
) -> None:
    """It is kept, and shown once the placing has come."""
    placed, paid, *_ = events_of(PATHS[1])
    log = Log()
    log.add([paid])
    number = await built(offline, log)
    assert await shown(views) == {}
    await fold_records(offline, number, log.add([placed]))
    assert await shown(views) == {UUID(paid.subject): ("ann", "paid", 2)}


async def test_a_batch_that_comes_again_changes_nothing(
    offline: Projecting, views: Database
) -> None:
    """After a crash, or from a member that was frozen: also when it is half new."""
    log = a_log()
    number = await begun(offline, log)
    await fold_records(offline, number, log.records[:6])
    await fold_records(offline, number, log.records)
    await fold_records(offline, number, log.records[:3])
    assert (await generations(views))[number].places[0].next_offset == len(log.records)
    assert await try_swap(offline, number)
    assert sum(number for *_, number in (await shown(views)).values()) == len(log.records)


async def test_two_projectors_of_one_generation_fold_each_record_once(
    offline: Projecting, views: Database
) -> None:
    """The same batches at the same moment: the places are locked, the later one drops its. What
    cannot be read is counted, so counting it twice would show."""
    log = a_log()
    _make_unreadable(log)
    number = await begun(offline, log)
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(fold_records(offline, number, log.records))
    place = (await generations(views))[number].places[0]
    assert (place.next_offset, place.unreadable) == (len(log.records), 3)


async def test_behind_a_gap_nothing_is_folded(offline: Projecting, views: Database) -> None:
    """The other partitions of the batch are rolled back with it."""
    log = a_log(partitions=2)
    other = log.add(events_of(PATHS[0]), partition=1)
    number = await begun(offline, log)
    with pytest.raises(CorruptData) as caught:
        await fold_records(offline, number, [*other, *log.records[1:-1]])
    assert caught.value.stable_code == "log_has_a_gap"
    places = (await generations(views))[number].places
    assert {place.next_offset for place in places.values()} == {0}


async def test_a_record_that_means_nothing_is_counted_and_stops_nobody(
    offline: Projecting, views: Database
) -> None:
    """Bytes that are no JSON, a header that is missing, a placing without a user."""
    log = a_log()
    _make_unreadable(log)
    number = await built(offline, log)
    assert (await generations(views))[number].places[0].unreadable == 3
    assert len(await shown(views)) == len(PATHS)


def _make_unreadable(log: Log) -> None:
    """Three more records, of which none means anything."""
    [first] = log.add(events_of(PATHS[0]))
    [second] = log.add(events_of(PATHS[0]))
    nobody = events_of(PATHS[0])[0]
    log.add([replace(nobody, data={**nobody.data, "user_id": ""})])
    log.records[first.offset] = replace(first, value=b"\xff\x00")
    log.records[second.offset] = replace(second, headers={"ce_specversion": "1.0"})


async def test_a_rebuild_takes_over_only_where_it_is_level_with_the_live_one(
    offline: Projecting, views: Database
) -> None:
    """The live one has folded what came since: at its targets the new one is not yet good enough,
    and readers are shown the old one until it is."""
    log = a_log(partitions=2)
    live = await built(offline, log)
    new = await begun(offline, log)
    target = list(log.records)
    late = log.add(events_of(PATHS[1]), partition=1)
    await fold_records(offline, live, late)
    await fold_records(offline, new, target)
    assert not await try_swap(offline, new)
    async with views.transaction() as conn:
        assert not await swap(conn, new, lock_timeout_s=20.0), "judged again under the locks"
    before = await shown(views)
    await fold_records(offline, new, late)
    assert await try_swap(offline, new)
    assert await shown(views) == before == await shown(views, f"order_view_{new}")
    assert (await generations(views))[live].state is State.RETIRED


async def test_however_many_ask_one_generation_is_built(
    offline: Projecting, views: Database
) -> None:
    """Asking again, at the same moment too, finds the one under way."""
    log = a_log()
    await built(offline, log)
    assert set(await asyncio.gather(*(begun(offline, log) for _ in range(4)))) == {2}
    assert (await generations(views)).keys() == {1, 2}


async def test_a_dropped_generation_is_gone_and_takes_no_late_batch(
    offline: Projecting, views: Database
) -> None:
    """A projector that was frozen meanwhile is told, and the view stays whole."""
    log = a_log()
    old = await built(offline, log)
    await built(offline, log)
    before = await shown(views)
    late = log.add(events_of(PATHS[0]))
    with pytest.raises(NotFound):
        await fold_records(offline, old, late)
    assert await drop_retired(offline) == [old]
    assert await drop_retired(offline) == []
    with pytest.raises(NotFound) as caught:
        await fold_records(offline, old, late)
    assert caught.value.stable_code == "generation_over"
    assert await shown(views) == before


async def test_a_reader_that_stays_keeps_the_old_view_and_the_swap_is_put_off(
    offline: Projecting, views: Database
) -> None:
    """Its transaction holds the view: the swap gives up, and is done once it has gone."""
    impatient = replace(offline, lock_timeout_s=0.1)
    log = a_log()
    await built(offline, log)
    new = await begun(offline, log)
    await fold_records(offline, new, log.records)
    async with views.transaction(read_only=True) as conn:
        await conn.execute("SELECT count(*) FROM order_view")
        assert not await try_swap(impatient, new)
    assert (await generations(views))[new].state is State.BUILDING
    assert await try_swap(offline, new)


async def test_a_statement_that_comes_during_the_swap_waits_and_reads_the_new_table_whole(
    offline: Projecting, views: Database
) -> None:
    """Nothing in between: what it reads was committed by the transaction that it waited for."""
    log = a_log()
    await built(offline, log)
    new = await begun(offline, log)
    await fold_records(offline, new, log.records)
    more = events_of(PATHS[1])
    async with views.transaction() as conn:
        assert await swap(conn, new, lock_timeout_s=20.0)
        await conn.execute(
            "INSERT INTO order_view_2 SELECT %s, user_id, lines, total_minor, currency, status,"
            " entered, updated_at FROM order_view_2 LIMIT 1",
            (more[0].subject,),
        )
        reading = asyncio.create_task(shown(views))
        await poll_until(lambda: _somebody_waits(views), "the reader waits for the view")
    assert (await reading).keys() == {UUID(more[0].subject), *rows_of_log(log)}


def rows_of_log(log: Log) -> set[UUID]:
    return {UUID(record.headers["ce_subject"]) for record in log.records}


async def _somebody_waits(database: Database) -> bool:
    async with database.autocommit(read_only=True) as conn:
        cursor = await conn.execute(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted"
            " AND relation = 'order_view'::regclass)"
        )
        row = await cursor.fetchone()
    return bool(row and row[0])


async def test_a_log_without_partitions_begins_nothing(
    offline: Projecting, views: Database
) -> None:
    """A clear refusal, and no table."""
    with pytest.raises(InvalidInput):
        await begun(offline, Log(0))
    assert await generations(views) == {}


async def test_a_partition_that_came_later_is_refused(offline: Projecting) -> None:
    """The generation does not know where it begins: rebuild."""
    log = a_log()
    number = await built(offline, log)
    grown = Log(2)
    with pytest.raises(NotFound) as caught:
        await fold_records(offline, number, grown.add(events_of(PATHS[0]), partition=1))
    assert caught.value.stable_code == "unknown_partition"
