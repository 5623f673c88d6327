"""The lifecycle on a real store: archived files are refused until restored, then gone."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from month2_databases.archive import Due, Rules, Span, Tier, cold_batches
from scalelab.errors import Conflict, CorruptData, InvalidInput, NotFound
from tests.integration.month2.archive.archive_bed import Bed, flip_bit

DAY = timedelta(days=1)
RULES = Rules(archive_after=100 * DAY, expire_after=1000 * DAY)
COUNT = "SELECT count(*) AS n FROM orders"


class Stop(Exception):
    """A runner that ends between two steps."""


async def tiers_of(bed: Bed) -> dict[int, Tier]:
    """Where each file is by the journal."""
    async with bed.database.transaction(read_only=True) as conn:
        return {one.batch_id: one.placement.tier for one in await cold_batches(conn)}


async def parquet_in(bed: Bed, bucket: str) -> list[str]:
    """Keys of the files in a bucket."""
    return [key async for key in bed.store.keys(bucket) if key.endswith(".parquet")]


async def archived(bed: Bed) -> int:
    """Move what is cold and archive all of it; the number of a file."""
    await bed.mover().run()
    bed.clock.advance((200 * DAY).total_seconds())
    await bed.tiers(RULES).run()
    return min(await tiers_of(bed))


async def test_a_file_is_archived_at_its_age_and_not_before(bed: Bed) -> None:
    """The older months move, the younger stay readable."""
    await bed.mover().run()
    done = await bed.tiers(RULES).run()
    tiers = await tiers_of(bed)
    assert set(tiers.values()) == {Tier.COLD, Tier.ARCHIVED}
    assert done == {Due.ARCHIVE: list(tiers.values()).count(Tier.ARCHIVED)}
    assert len(await parquet_in(bed, bed.buckets.archive)) == done[Due.ARCHIVE]
    assert len(await parquet_in(bed, bed.buckets.cold)) == len(tiers) - done[Due.ARCHIVE]
    assert await bed.tiers(RULES).run() == {}


async def test_an_archived_month_is_refused_by_name_and_others_answer(bed: Bed) -> None:
    """No answer over a part of what was asked for."""
    await archived(bed)
    with pytest.raises(Conflict, match="2025-11") as refused:
        await bed.orders().ask(COUNT)
    assert refused.value.stable_code == "object_archived"
    assert (await bed.orders().ask(COUNT, span=Span(date(2026, 5, 1)))).rows[0]["n"] > 0


async def test_a_restore_takes_its_time_and_then_ends(bed: Bed) -> None:
    """Before, between and after: refused, the same answer as ever, refused."""
    await bed.mover().run()
    november = Span(date(2025, 11, 1), date(2025, 11, 1))
    before = await bed.orders().ask(COUNT, span=november)
    bed.clock.advance((200 * DAY).total_seconds())
    runner = bed.tiers(RULES)
    await runner.run()
    async with bed.database.transaction(read_only=True) as conn:
        wanted = [one.batch_id for one in await cold_batches(conn, november.first, november.last)]
    promises = [await runner.restore(n, retrieval="standard", keep=2 * DAY) for n in wanted]
    assert {one.ready_at - bed.clock.now() for one in promises} == {timedelta(hours=5)}

    await runner.run()
    with pytest.raises(Conflict):
        await bed.orders().ask(COUNT, span=november)
    bed.clock.advance(timedelta(hours=5).total_seconds())
    assert await runner.run() == {Due.FINISH_RESTORE: len(wanted)}
    assert (await bed.orders().ask(COUNT, span=november)).rows == before.rows
    bed.clock.advance((2 * DAY).total_seconds())
    with pytest.raises(Conflict):  # its time is over, whether anybody has tidied up or not
        await bed.orders().ask(COUNT, span=november)
    assert await runner.run() == {Due.END_RESTORE: len(wanted)}
    assert await parquet_in(bed, bed.buckets.cold) == []


async def test_what_has_expired_is_gone_and_still_counted(bed: Bed) -> None:
    """The rows are away by decision, and each answer says how many."""
    await archived(bed)
    kept = len(bed.hot_ids())
    bed.clock.advance((1000 * DAY).total_seconds())
    await bed.tiers(RULES).run()
    answer = await bed.orders().ask(COUNT)
    assert answer.rows == [{"n": kept}]
    assert answer.expired_rows == len(bed.every) - kept > 0
    left = [
        key
        for bucket in (bed.buckets.cold, bed.buckets.archive)
        async for key in bed.store.keys(bucket)
    ]
    assert left == []


@pytest.mark.parametrize("age", [200, 2000])
async def test_a_runner_that_ends_in_the_middle_loses_nothing(bed: Bed, age: int) -> None:
    """It stops after the copy and before the commit; the next one does all of it."""
    await bed.mover().run()

    def stop(step: str) -> None:
        raise Stop(step)

    files = len(await tiers_of(bed))
    bed.clock.advance((age * DAY).total_seconds())
    with pytest.raises(Stop):
        await bed.tiers(RULES, at=stop).run()
    assert set((await tiers_of(bed)).values()) == {Tier.COLD}
    await bed.every_order_once()  # nothing is archived by the journal, so everything answers
    done = await bed.tiers(RULES).run()
    assert done[Due.ARCHIVE] == files
    assert done.get(Due.EXPIRE, 0) == (files if age > 1000 else 0)


async def test_a_file_damaged_before_archiving_is_not_archived(bed: Bed) -> None:
    """The copy is compared with the hash; the journal goes on pointing to the old place."""
    await bed.mover().run()
    bed.clock.advance((200 * DAY).total_seconds())
    flip_bit(sorted((bed.server.objects / bed.buckets.cold).rglob("*.parquet"))[0])
    with pytest.raises(CorruptData):
        await bed.tiers(RULES).run()
    assert Tier.COLD in set((await tiers_of(bed)).values())


async def test_only_what_is_archived_can_be_restored(bed: Bed) -> None:
    """Each with its reason, and nothing is changed."""
    await bed.mover().run()
    runner = bed.tiers(RULES)
    with pytest.raises(NotFound) as unknown:
        await runner.restore(10**9, retrieval="bulk", keep=DAY)
    assert unknown.value.stable_code == "no_such_file"
    with pytest.raises(Conflict) as readable:
        await runner.restore(min(await tiers_of(bed)), retrieval="bulk", keep=DAY)
    assert readable.value.stable_code == "object_not_archived"
    with pytest.raises(InvalidInput):
        await runner.restore(min(await tiers_of(bed)), retrieval="at once", keep=DAY)


async def test_objects_that_nothing_points_to_are_removed_and_others_are_not(bed: Bed) -> None:
    """What a killed mover or runner left; never a file that somebody may be about to point to."""
    await bed.mover().run()
    batch = min(await tiers_of(bed))
    strangers = [
        f"orders/month=2025-11/{batch:08d}-000000000000.parquet",
        f"orders/month=2025-11/{10**7:08d}-000000000000.parquet",
        "orders/readme",
    ]
    for key in strangers:
        await bed.store.put(bed.buckets.cold, key, b"x")
    assert await bed.tiers(RULES).tidy() == 1
    left = [key async for key in bed.store.keys(bed.buckets.cold)]
    assert [key in left for key in strangers] == [False, True, True]
    await bed.every_order_once()
