"""Tiers: what is due when, and what can be read when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.archive import (
    ARCHIVE_PRICE,
    COLD_PRICE,
    Due,
    Placement,
    Restore,
    Rules,
    Tier,
    ask_restore,
    break_even,
    due,
    is_readable,
    year_usd,
)
from scalelab.errors import Conflict, InvalidInput

END = datetime(2025, 1, 1, tzinfo=UTC)
RULES = Rules(archive_after=timedelta(days=100), expire_after=timedelta(days=1000))
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
COLD = Placement(Tier.COLD, END)
ARCHIVED = Placement(Tier.ARCHIVED, END)


def carried_out(placement: Placement, step: Due) -> Placement:
    """The placement after a step, as the runner writes it."""
    if step is Due.ARCHIVE:
        return replace(placement, tier=Tier.ARCHIVED)
    if step is Due.EXPIRE:
        return Placement(Tier.EXPIRED, placement.month_end)
    if step is Due.END_RESTORE:
        return replace(placement, restore=None)
    assert placement.restore is not None
    return replace(placement, restore=replace(placement.restore, is_done=True))


@given(st.lists(st.integers(0, 400), min_size=1, max_size=12))
def test_tiers_follow_each_other_and_none_is_skipped(waits: list[int]) -> None:
    """I1: however seldom the rules are run."""
    now, placement = END, COLD
    seen = [placement.tier]
    for days in waits:
        now += days * DAY
        while (step := due(placement, RULES, now)) is not Due.NOTHING:
            placement = carried_out(placement, step)
            seen.append(placement.tier)
    assert seen == [Tier.COLD, Tier.ARCHIVED, Tier.EXPIRED][: len(seen)]
    age = now - END
    assert (placement.tier is Tier.EXPIRED) == (age >= RULES.expire_after)


def test_an_archived_file_is_read_only_between_its_restore_and_the_end_of_it() -> None:
    """I2: asked for, it still takes its time; done, it ends."""
    now = END + 200 * DAY
    asked = ask_restore(ARCHIVED, first_byte=5 * HOUR, keep=2 * DAY, now=now)
    assert due(asked, RULES, now + 4 * HOUR) is Due.NOTHING
    assert not is_readable(asked, now + 6 * HOUR)  # nobody has made the copy yet
    assert due(asked, RULES, now + 5 * HOUR) is Due.FINISH_RESTORE
    done = carried_out(asked, Due.FINISH_RESTORE)
    assert is_readable(done, now + 5 * HOUR)
    assert due(done, RULES, now + 5 * HOUR) is Due.NOTHING
    after = now + 5 * HOUR + 2 * DAY
    assert not is_readable(done, after)
    assert due(done, RULES, after) is Due.END_RESTORE
    assert due(carried_out(done, Due.END_RESTORE), RULES, after) is Due.NOTHING


def test_asking_again_makes_it_last_longer_and_no_sooner() -> None:
    """A second reader does not start the clock anew."""
    now = END + 200 * DAY
    first = ask_restore(ARCHIVED, first_byte=5 * HOUR, keep=DAY, now=now)
    second = ask_restore(first, first_byte=5 * HOUR, keep=3 * DAY, now=now + HOUR)
    assert first.restore is not None
    assert second.restore == Restore(first.restore.ready_at, first.restore.ready_at + 3 * DAY)


def test_a_restore_that_ran_out_begins_anew() -> None:
    """The copy is gone, so it takes its time again."""
    now = END + 200 * DAY
    old = replace(ARCHIVED, restore=Restore(now - 3 * DAY, now - DAY, is_done=True))
    asked = ask_restore(old, first_byte=5 * HOUR, keep=DAY, now=now)
    assert asked.restore == Restore(now + 5 * HOUR, now + 5 * HOUR + DAY)


def test_expiry_takes_a_restored_copy_too() -> None:
    """I3: that it ends is a promise to somebody else."""
    now = END + 1000 * DAY
    restored = replace(ARCHIVED, restore=Restore(now - DAY, now + DAY, is_done=True))
    assert due(restored, RULES, now) is Due.EXPIRE


@pytest.mark.parametrize(
    ("placement", "code"),
    [(COLD, "object_not_archived"), (Placement(Tier.EXPIRED, END), "object_expired")],
)
def test_only_an_archived_file_can_be_restored(placement: Placement, code: str) -> None:
    """Each with the reason."""
    with pytest.raises(Conflict) as refused:
        ask_restore(placement, first_byte=HOUR, keep=DAY, now=END)
    assert refused.value.stable_code == code


def test_rules_that_expire_before_they_archive_are_refused() -> None:
    """And nothing else is assumed."""
    with pytest.raises(InvalidInput):
        Rules(archive_after=2 * DAY, expire_after=DAY)


def test_below_the_break_even_the_archive_tier_is_cheaper_and_above_it_is_not() -> None:
    """The price moves from keeping to reading."""
    for retrieval in ("expedited", "standard"):
        stored = {"stored_bytes": 10 << 40, "objects": 100_000}
        reads = break_even(ARCHIVE_PRICE, retrieval, COLD_PRICE, **stored)
        assert 0 < reads < 100
        for factor, cheaper in ((0.9, True), (1.1, False)):
            archive = year_usd(ARCHIVE_PRICE, retrieval, **stored, reads=reads * factor)
            cold = year_usd(COLD_PRICE, "direct", **stored, reads=reads * factor)
            assert (archive < cold) is cheaper


def test_the_faster_way_out_of_the_archive_costs_more() -> None:
    """Per read, over all retrievals; and the waiting goes the other way round."""
    stored = {"stored_bytes": 1 << 40, "objects": 1000}
    ways = ARCHIVE_PRICE.retrievals
    by_price = sorted(ways, key=lambda name: year_usd(ARCHIVE_PRICE, name, **stored, reads=1))
    assert by_price == sorted(ways, key=lambda name: -ways[name].first_byte)


def test_a_retrieval_that_is_not_sold_is_refused() -> None:
    """With those that are."""
    with pytest.raises(InvalidInput, match="expedited, standard, bulk"):
        ARCHIVE_PRICE.retrieval("tomorrow")
