"""Cold orders leave PostgreSQL for Parquet files; every order stays findable exactly once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import psycopg
import pytest

from month2_databases.archive import (
    ColdPolicy,
    MoveReport,
    decode,
    from_json,
    is_cold,
    rows_digest,
    rows_of,
)
from scalelab.clients.s3 import ObjectStore, S3Settings
from scalelab.errors import NotFound, Unauthenticated, Unavailable
from tests.integration.month2.archive.archive_bed import (
    NOW,
    Bed,
    files_of,
    flip_bit,
    make_orders,
    settings_of,
)

POLICY = ColdPolicy(hot_months=2)


async def test_exactly_the_cold_orders_leave_the_hot_store(bed: Bed) -> None:
    """And every order is there once for the joint query."""
    report = await bed.mover().run()
    cold = {one.order_id for one in bed.every.values() if is_cold(one, POLICY, NOW)}
    assert report.rows == len(cold) > 120
    assert bed.hot_ids() == set(bed.every) - cold
    await bed.every_order_once()


async def test_a_second_run_changes_nothing(bed: Bed) -> None:
    """I3: no file, no row, no object."""
    await bed.mover().run()
    before = [key async for key in bed.store.keys(bed.buckets.cold)]
    assert await bed.mover().run() == MoveReport()
    assert [key async for key in bed.store.keys(bed.buckets.cold)] == before


async def test_each_file_agrees_with_the_manifest_beside_it(bed: Bed) -> None:
    """Whoever has the bucket alone can tell what should be there and whether it is."""
    await bed.mover().run()
    keys = [key async for key in bed.store.keys(bed.buckets.cold)]
    manifests = [key for key in keys if key.endswith(".json")]
    assert len(manifests) * 2 == len(keys) > 8
    for key in manifests:
        manifest = from_json(await bed.store.get(bed.buckets.cold, key))
        assert manifest.manifest_key == key
        rows = rows_of(decode(await bed.store.get(bed.buckets.cold, manifest.key)))
        assert (len(rows), rows_digest(rows)) == (manifest.rows, manifest.rows_sha256)
        assert len(rows) <= 40
        assert {f"{row.placed_at:%Y-%m}" for row in rows} == {f"{manifest.month:%Y-%m}"}


async def test_an_order_that_ends_late_follows_in_a_file_of_its_own(bed: Bed) -> None:
    """Open orders of a cold month stay hot until they have ended."""
    await bed.mover().run()
    with psycopg.connect(bed.dsn) as conn:
        conn.execute("UPDATE orders SET state = 'cancelled' WHERE state = 'pending'")
    report = await bed.mover().run()
    cold_open = [
        one
        for one in bed.every.values()
        if one.state == "pending" and one.placed_at < NOW.replace(month=4, day=1)
    ]
    assert report.rows == len(cold_open) > 0
    found = await bed.orders().ask(
        "SELECT count(*) AS n, count(DISTINCT order_id) AS d FROM orders"
    )
    assert found.rows == [{"n": 240, "d": 240}]


async def test_a_row_that_changes_after_the_export_is_exported_again(bed: Bed) -> None:
    """I1: what is deleted is what was written down; the file with the old row is not believed."""
    changed = 0

    def meddle(step: str) -> None:
        nonlocal changed
        if step == "verified" and not changed:
            with psycopg.connect(bed.dsn) as conn:
                changed = conn.execute(
                    "UPDATE orders SET amount_cents = amount_cents + 1, state = 'refunded'"
                    " WHERE order_id = (SELECT first_id FROM archive_batch WHERE state = 'stored')"
                ).rowcount

    before = sum(one.amount_cents for one in bed.every.values())
    report = await bed.mover(at=meddle).run()
    assert (changed, report.again) == (1, 1)
    sums = await bed.orders().ask("SELECT sum(amount_cents)::BIGINT AS cents FROM orders")
    assert sums.rows == [{"cents": before + 1}]
    assert await bed.tiers().tidy() == 2  # the file with the old row, and its manifest


async def test_an_object_damaged_before_the_rows_go_is_made_again(bed: Bed) -> None:
    """The very bytes in the store are read back; a flipped bit costs an upload, not an order."""
    damaged: list[str] = []

    def damage(step: str) -> None:
        if step == "stored" and not damaged:
            (path,) = files_of(bed)
            flip_bit(path)
            damaged.append(path.name)

    report = await bed.mover(at=damage).run()
    assert (len(damaged), report.again) == (1, 1)
    await bed.every_order_once()


async def test_wrong_keys_move_nothing(bed: Bed) -> None:
    """A stable code, and all rows where they were."""
    right = settings_of(bed.server)
    async with ObjectStore(S3Settings(right.endpoint, right.access_key, "not the secret")) as wrong:
        with pytest.raises(Unauthenticated) as refused:
            await bed.mover(store=wrong).run()
    assert refused.value.stable_code == "s3_keys_refused"
    assert bed.hot_ids() == set(bed.every)
    await bed.mover().run()
    await bed.every_order_once()


async def test_a_missing_bucket_moves_nothing(bed: Bed) -> None:
    """It is not made in passing: a wrong name would swallow orders."""
    with pytest.raises(NotFound) as refused:
        await bed.mover(bucket="no-such-bucket").run()
    assert refused.value.stable_code == "no_such_bucket"
    assert bed.hot_ids() == set(bed.every)


async def test_a_store_that_is_away_moves_nothing(bed: Bed) -> None:
    """The next run goes on with the file that was planned."""
    nobody = S3Settings("http://127.0.0.1:1", "nobody", "nothing", attempts=1)
    async with ObjectStore(nobody) as away:
        with pytest.raises(Unavailable):
            await bed.mover(store=away).run()
    assert bed.hot_ids() == set(bed.every)
    await bed.mover().run()
    await bed.every_order_once()


async def test_two_movers_at_once_move_each_order_once(bed: Bed) -> None:
    """Both do the work of one; neither takes a row that is not in its file."""
    reports = await asyncio.gather(bed.mover().run(), bed.mover().run())
    cold = [one for one in bed.every.values() if is_cold(one, POLICY, NOW)]
    assert sum(report.rows for report in reports) == len(cold)
    await bed.every_order_once()


async def test_a_month_with_one_order_is_one_small_file(bed: Bed) -> None:
    """No file is empty, none waits for company."""
    await bed.mover().run()
    (lone,) = make_orders(1, months=1, seed=9, state="confirmed")
    await bed.add([replace(lone, placed_at=lone.placed_at.replace(year=2024))])
    report = await bed.mover().run()
    assert (report.files, report.rows) == (1, 1)
    await bed.every_order_once()
