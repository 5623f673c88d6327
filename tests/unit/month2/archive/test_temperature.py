"""What is cold at which instant."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.archive import (
    END_STATES,
    OPEN_STATES,
    ColdPolicy,
    OrderRow,
    cold_before,
    is_cold,
    month_of,
    months_after,
    start_of,
)
from scalelab.errors import InvalidInput

INSTANTS = st.datetimes(
    datetime(2001, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    datetime(2090, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


def order(placed_at: datetime, state: str = "confirmed") -> OrderRow:
    """One order."""
    return OrderRow(UUID(int=1), "u", "de", 100, state, placed_at)


@given(INSTANTS, INSTANTS, INSTANTS, st.integers(0, 60))
def test_what_is_cold_stays_cold(
    placed_at: datetime, one: datetime, other: datetime, hot: int
) -> None:
    """I1: coldness never goes back."""
    earlier, later = sorted((one, other))
    policy = ColdPolicy(hot_months=hot)
    if is_cold(order(placed_at), policy, earlier):
        assert is_cold(order(placed_at), policy, later)


@given(INSTANTS, st.integers(0, 60))
def test_an_order_stays_hot_for_so_many_whole_months(placed_at: datetime, hot: int) -> None:
    """I2: the last instant of the last hot month is hot, the next is cold."""
    turns_cold = start_of(months_after(month_of(placed_at), hot + 1))
    policy = ColdPolicy(hot_months=hot)
    assert not is_cold(order(placed_at), policy, turns_cold - timedelta(microseconds=1))
    assert is_cold(order(placed_at), policy, turns_cold)


@pytest.mark.parametrize("state", OPEN_STATES)
def test_an_open_order_is_never_cold(state: str) -> None:
    """I3: however old it is."""
    assert not is_cold(
        order(datetime(1999, 1, 1, tzinfo=UTC), state),
        ColdPolicy(),
        datetime(2050, 1, 1, tzinfo=UTC),
    )


def test_no_state_is_both_open_and_ended() -> None:
    """The two lists divide the states."""
    assert not set(OPEN_STATES) & set(END_STATES)


def test_a_month_is_one_of_utc() -> None:
    """An order placed in Auckland on the first belongs to the month before."""
    auckland = timezone(timedelta(hours=13))
    assert month_of(datetime(2026, 3, 1, 5, tzinfo=auckland)) == date(2026, 2, 1)


def test_months_are_counted_over_the_turn_of_the_year() -> None:
    """Both ways."""
    assert months_after(date(2025, 11, 1), 3) == date(2026, 2, 1)
    assert cold_before(ColdPolicy(hot_months=3), datetime(2026, 2, 9, tzinfo=UTC)) == date(
        2025, 11, 1
    )


def test_an_instant_without_a_zone_is_refused() -> None:
    """Nobody could say which month it is in."""
    with pytest.raises(InvalidInput):
        month_of(datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("bad", [{"hot_months": -1}, {"batch_rows": 0}])
def test_a_policy_that_means_nothing_is_refused(bad: dict[str, int]) -> None:
    """With the field's name."""
    with pytest.raises(InvalidInput):
        ColdPolicy(**bad)
