"""Claims about choosing a version, and about what an old one says (pure)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.catalog.versions import Choice, Lifetime, choose
from scalelab.errors import InvalidInput

JSON = "application/json"
V1, V2 = (f"application/vnd.scalelab.v{version}+json" for version in (1, 2))


@pytest.mark.parametrize(
    ("accept", "api_version", "expected"),
    [
        (None, None, Choice(1, JSON)),
        ("", None, Choice(1, JSON)),
        ("*/*", None, Choice(1, JSON)),
        ("text/html, */*;q=0.1", None, Choice(1, JSON)),
        (JSON, "2", Choice(2, JSON)),
        (None, " 2 ", Choice(2, JSON)),
        (V2, None, Choice(2, V2)),
        (V2.upper(), None, Choice(2, V2)),
        (f"{V2}, {JSON}", None, Choice(2, V2)),
        (f"{V1};q=0.5, {V2};q=0.4", None, Choice(1, V1)),
        (f"{V1};q=0.4, {V2};q=0.5", None, Choice(2, V2)),
        (f"{V1};q=0, */*", None, Choice(2, JSON)),
        (f"{JSON};q=0.9, {V2};q=0.8", None, Choice(1, JSON)),
        (f"{V2}; charset=utf-8 ; q=1.0", None, Choice(2, V2)),
        (f"application/vnd.scalelab.v7+json, {V2};q=0.1", None, Choice(2, V2)),
    ],
)
def test_the_version_that_the_request_names(
    accept: str | None, api_version: str | None, expected: Choice
) -> None:
    """N1 and N2; who names none gets the oldest."""
    assert choose(accept, api_version, [1, 2]) == expected


@pytest.mark.parametrize(
    ("accept", "api_version", "code"),
    [
        (None, "3", "unknown_version"),
        (None, "", "unknown_version"),
        (None, "v2", "unknown_version"),
        (None, "02", "unknown_version"),
        ("application/vnd.scalelab.v3+json", None, "not_acceptable"),
        ("text/html", None, "not_acceptable"),
        (f"{JSON};q=0", None, "not_acceptable"),
        (f"{JSON};q=2", None, "not_acceptable"),
        (V1, "2", "not_acceptable"),
        (";;,,", None, "not_acceptable"),
    ],
)
def test_a_version_that_is_not_there_is_refused_by_name(
    accept: str | None, api_version: str | None, code: str
) -> None:
    """An unknown number, a form we do not have, two headers that contradict each other."""
    with pytest.raises(InvalidInput) as caught:
        choose(accept, api_version, [1, 2])
    assert caught.value.stable_code == code


@given(accept=st.text(st.sampled_from("aplictonvd./*+;q=0123,- js"), max_size=80))
def test_any_accept_gives_a_served_version_or_one_error(accept: str) -> None:
    """N1: nothing else can come out."""
    try:
        outcome = str(choose(accept, None, [1, 2]).version)
    except InvalidInput as error:
        outcome = error.stable_code
    assert outcome in ("1", "2", "not_acceptable")


def test_an_old_version_says_since_when_until_when_and_what_next() -> None:
    """RFC 9745, RFC 8594 and RFC 5829: three headers."""
    lifetime = Lifetime(
        datetime(2023, 6, 30, 23, 59, 59, tzinfo=UTC), datetime(2025, 12, 31, 8, tzinfo=UTC)
    )
    assert lifetime.headers("/api/v2/products/p-0001") == {
        "deprecation": "@1688169599",
        "sunset": "Wed, 31 Dec 2025 08:00:00 GMT",
        "link": '</api/v2/products/p-0001>; rel="successor-version"',
    }


def test_nothing_goes_before_it_is_declared_old() -> None:
    """RFC 9745 section 4: the sunset is not before the deprecation."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(InvalidInput):
        Lifetime(now, now - timedelta(days=1))
