"""One question over hot rows and Parquet files gives the answer of a single table."""

from __future__ import annotations

from collections import defaultdict
from datetime import date

import pytest

from month2_databases.archive import AllOrders, Span
from scalelab.errors import CorruptData, InvalidInput, NotFound, TooLarge
from tests.integration.month2.archive.archive_bed import Bed, files_of, flip_bit

BY_COUNTRY = (
    "SELECT country, strftime(placed_at, '%Y-%m') AS month, count(*) AS orders,"
    " sum(amount_cents)::BIGINT AS cents FROM orders GROUP BY ALL ORDER BY ALL"
)


async def test_sums_over_hot_and_cold_are_those_of_one_table(bed: Bed) -> None:
    """The same before and after the move, and the same as added up by hand."""
    before = await bed.orders().ask(BY_COUNTRY)
    await bed.mover().run()
    after = await bed.orders().ask(BY_COUNTRY)
    by_hand: dict[tuple[str, str], list[int]] = defaultdict(list)
    for one in bed.every.values():
        by_hand[one.country, f"{one.placed_at:%Y-%m}"].append(one.amount_cents)
    assert after.rows == before.rows
    found = {(one["country"], one["month"]): (one["orders"], one["cents"]) for one in after.rows}
    assert found == {key: (len(cents), sum(cents)) for key, cents in by_hand.items()}
    assert before.cold_files == 0
    assert after.cold_rows > after.hot_rows > 0


async def test_a_span_reads_only_the_files_of_its_months(bed: Bed) -> None:
    """The journal knows the month of each file, so the others are not fetched."""
    await bed.mover().run()
    february = Span(date(2026, 2, 1), date(2026, 2, 1))
    found = await bed.orders().ask("SELECT count(*) AS n FROM orders", span=february)
    wanted = [one for one in bed.every.values() if f"{one.placed_at:%Y-%m}" == "2026-02"]
    assert found.rows == [{"n": len(wanted)}]
    assert 0 < found.cold_files < len(files_of(bed))


async def test_a_value_is_a_value_and_never_sql(bed: Bed) -> None:
    """What a user typed travels beside the statement."""
    await bed.mover().run()
    ask = "SELECT count(*) AS n FROM orders WHERE user_id = ?"
    assert (await bed.orders().ask(ask, ["user-3"])).rows == [{"n": 12}]
    assert (await bed.orders().ask(ask, ["' OR true --"])).rows == [{"n": 0}]


async def test_a_flipped_bit_is_refused_by_its_hash(bed: Bed) -> None:
    """No answer at all, rather than one over damaged rows; other months still answer."""
    await bed.mover().run()
    damaged = files_of(bed)[0]
    flip_bit(damaged)
    with pytest.raises(CorruptData) as refused:
        await bed.orders().ask("SELECT count(*) FROM orders")
    assert refused.value.stable_code == "object_corrupt"
    spared = date(2026, 6, 1)
    assert (await bed.orders().ask("SELECT count(*) AS n FROM orders", span=Span(spared))).rows


async def test_an_object_that_was_replaced_is_refused_by_the_journals_hash(bed: Bed) -> None:
    """The store vouches for what was put last; only the journal knows what was moved."""
    await bed.mover().run()
    keys = [key async for key in bed.store.keys(bed.buckets.cold) if key.endswith(".parquet")]
    another = await bed.store.get(bed.buckets.cold, keys[1])
    await bed.store.put(bed.buckets.cold, keys[0], another)
    with pytest.raises(CorruptData) as refused:
        await bed.orders().ask("SELECT count(*) FROM orders")
    assert refused.value.stable_code == "object_corrupt"


async def test_a_lost_object_is_an_error_not_a_smaller_answer(bed: Bed) -> None:
    """The journal says that it must be there."""
    await bed.mover().run()
    keys = [key async for key in bed.store.keys(bed.buckets.cold)]
    await bed.store.delete(bed.buckets.cold, keys[0])
    with pytest.raises(NotFound) as refused:
        await bed.orders().ask("SELECT count(*) FROM orders")
    assert refused.value.stable_code == "no_such_object"


async def test_a_question_cannot_reach_files_or_addresses(bed: Bed) -> None:
    """The engine sees one table."""
    with pytest.raises(InvalidInput) as refused:
        await bed.orders().ask("SELECT * FROM read_csv('/etc/passwd')")
    assert refused.value.stable_code == "bad_question"


async def test_more_rows_than_allowed_are_refused_before_any_file_is_fetched(bed: Bed) -> None:
    """A question over everything must not take the memory of everything."""
    await bed.mover().run()
    small = AllOrders(bed.database, bed.store, bed.buckets.cold, clock=bed.clock, most_rows=200)
    with pytest.raises(TooLarge):
        await small.ask("SELECT count(*) FROM orders")
