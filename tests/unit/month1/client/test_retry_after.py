"""Claims about reading Retry-After (pure)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.client import asked_wait_s

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DATE = "Sun, 01 Mar 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("61", 60.0),
        ("9" * 40, 60.0),
        ("Sun, 01 Mar 2026 12:00:09 GMT", 9.0),
        ("Sun, 01 Mar 2026 13:00:00 GMT", 60.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("١", None),
        ("soon", None),
        ("Sun, 99 Mar 2026 12:00:09 GMT", None),
    ],
)
def test_seconds_and_dates_are_read_and_bounded(value: str, expected: float | None) -> None:
    """RFC 9110 section 10.2.3; what cannot be read asks for nothing."""
    assert asked_wait_s({"retry-after": value}, now=NOW, at_most_s=60.0) == expected


def test_a_date_is_read_against_the_clock_that_wrote_it() -> None:
    """Our clock is an hour wrong; the answer's own Date says that nine seconds are meant."""
    headers = {"retry-after": "Sun, 01 Mar 2026 12:00:09 GMT", "date": DATE}
    wrong = NOW.replace(hour=13)
    assert asked_wait_s(headers, now=wrong, at_most_s=60.0) == 9.0


@given(value=st.text(max_size=40), date=st.text(max_size=40))
def test_any_text_gives_nothing_or_a_bounded_wait(value: str, date: str) -> None:
    """No header raises."""
    wait_s = asked_wait_s({"retry-after": value, "date": date}, now=NOW, at_most_s=60.0)
    assert wait_s is None or 0.0 <= wait_s <= 60.0
