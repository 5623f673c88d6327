"""What RFC 9111 says of one answer, one rule a test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.response_cache import (
    CachePolicy,
    Entry,
    EntryStore,
    Freshness,
    Use,
    freshness_of,
    kept_query,
    key_of,
    not_modified,
    read_date,
    read_directives,
    selects,
    updated,
    variant_of,
    why_not_stored,
    write_date,
)
from scalelab.errors import InvalidInput

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
Headers = dict[bytes, bytes]


def freshness(headers: Headers, policy: CachePolicy | None = None, took_s: float = 0) -> Freshness:
    return freshness_of(
        headers,
        read_directives([headers.get(b"cache-control", b"")]),
        policy or CachePolicy(),
        asked_at_s=0.0,
        received_at_s=took_s,
        now=NOW,
    )


def reason(headers: Headers, status: int = 200, policy: CachePolicy | None = None) -> str | None:
    policy = policy or CachePolicy()
    directives = read_directives([headers.get(b"cache-control", b"")])
    return why_not_stored(status, headers, directives, freshness(headers, policy), policy)


@pytest.mark.parametrize(
    ("headers", "lifetime_s"),
    [
        ({b"cache-control": b"s-maxage=9, max-age=60"}, 9),
        ({b"cache-control": b"max-age=60", b"expires": write_date(NOW)}, 60),
        ({b"date": write_date(NOW), b"expires": write_date(NOW + timedelta(seconds=30))}, 30),
        ({b"expires": b"0"}, 0),
        ({b"expires": write_date(NOW - timedelta(days=1))}, 0),
        ({b"cache-control": b"MAX-AGE=60"}, 60),
        ({b"cache-control": b'max-age="60"'}, 60),
        ({b"cache-control": b"max-age=60, max-age=5"}, 5),
        ({b"cache-control": b"max-age=-1"}, 0),
        ({b"cache-control": b"max-age"}, 0),
        ({b"cache-control": b"max-age=99999999999999999999"}, 2**31),
        ({b"cache-control": b"no-cache, max-age=60"}, 0),
        ({}, 0),
    ],
    ids=str,
)
def test_the_lifetime_is_what_the_answer_says_first(headers: Headers, lifetime_s: float) -> None:
    """F1: s-maxage, max-age, Expires; a wrong or double value makes it shorter."""
    assert freshness(headers).lifetime_s == lifetime_s


def test_what_says_nothing_is_fresh_for_the_routes_default() -> None:
    """F1, its last clause."""
    assert freshness({}, CachePolicy(default_ttl_s=7)).lifetime_s == 7
    assert freshness({b"cache-control": b"max-age=0"}, CachePolicy(default_ttl_s=7)).lifetime_s == 0


@pytest.mark.parametrize(
    ("headers", "took_s", "age_s"),
    [
        ({b"age": b"10"}, 2.0, 12),
        ({b"date": write_date(NOW - timedelta(seconds=30))}, 0.0, 30),
        ({b"date": write_date(NOW + timedelta(seconds=30))}, 1.0, 1),
        ({b"age": b"x"}, 1.0, 1),
        ({b"age": b"7, 9"}, 0.0, 7),
    ],
    ids=str,
)
def test_time_spent_elsewhere_counts(headers: Headers, took_s: float, age_s: float) -> None:
    """F2: the larger of Age with the way, and of Date."""
    assert freshness(headers, took_s=took_s).age_s(took_s) == age_s


def test_fresh_ends_when_age_reaches_the_lifetime() -> None:
    """And the stale windows follow one another."""
    one = freshness({b"cache-control": b"max-age=10, stale-while-revalidate=5, stale-if-error=20"})
    uses = [one.use(at_s) for at_s in (9.9, 10.0, 14.9, 15.0)]
    while_s = Use.STALE_WHILE_REVALIDATE
    assert uses == [Use.FRESH, while_s, while_s, Use.VALIDATE_FIRST]
    assert [one.may_stand_in(at_s) for at_s in (29.9, 30.0)] == [True, False]


@pytest.mark.parametrize("said", [b"must-revalidate", b"proxy-revalidate", b"s-maxage=10"])
def test_what_must_be_revalidated_is_never_given_stale(said: bytes) -> None:
    """F3: whatever the route's policy allows others."""
    policy = CachePolicy(stale_while_revalidate_s=60, stale_if_error_s=60)
    one = freshness({b"cache-control": b"max-age=10, " + said}, policy)
    assert one.use(10.0) is Use.VALIDATE_FIRST
    assert not one.may_stand_in(10.0)


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({b"cache-control": b"max-age=9"}, None),
        ({b"cache-control": b"max-age=0", b"etag": b'"1"'}, None),
        ({b"cache-control": b"no-cache", b"etag": b'"1"'}, None),
        ({b"cache-control": b"max-age=0, stale-if-error=9"}, None),
        ({b"cache-control": b"max-age=9, no-store"}, "no-store"),
        ({b"cache-control": b"max-age=9, must-understand, no-store"}, "no-store"),
        ({b"cache-control": b"max-age=9, =="}, "no-store"),
        ({b"cache-control": b'max-age=9, private="set-cookie"'}, "private"),
        ({b"cache-control": b"max-age=9", b"set-cookie": b"a=1"}, "set-cookie"),
        ({b"cache-control": b"max-age=9", b"vary": b"*"}, "vary"),
        ({b"cache-control": b"max-age=9", b"vary": b"accept, *"}, "vary"),
        ({b"cache-control": b"max-age=9", b"vary": b"User-Agent"}, "vary"),
        ({b"cache-control": b"max-age=9", b"content-range": b"bytes 0-1/2"}, "partial"),
        ({b"cache-control": b"max-age=9", b"age": b"9"}, "expired"),
        ({}, "expired"),
    ],
    ids=str,
)
def test_what_may_be_kept(headers: Headers, why: str | None) -> None:
    """T1, T2, T3."""
    assert reason(headers) == why


@pytest.mark.parametrize("status", [201, 202, 206, 302, 304, 307, 401, 403, 500, 503])
def test_a_status_of_the_moment_is_not_kept(status: int) -> None:
    """However long it claims to be fresh."""
    assert reason({b"cache-control": b"max-age=9"}, status) == "status"


def test_an_answer_may_vary_by_what_the_service_saw() -> None:
    """Content negotiation, and what the route adds."""
    headers = {b"cache-control": b"max-age=9", b"vary": b"Accept-Encoding, X-Api-Version"}
    assert reason(headers) == "vary"
    assert reason(headers, policy=CachePolicy(headers=frozenset({b"x-api-version"}))) is None


def test_no_route_can_show_credentials_to_a_shared_fetch() -> None:
    """It would be kept for everybody."""
    for name in (b"authorization", b"cookie", b"x-api-key"):
        with pytest.raises(InvalidInput):
            CachePolicy(headers=frozenset({name}))


@pytest.mark.parametrize(
    ("asked", "stored", "same"),
    [
        ({b"if-none-match": b'"1"'}, {b"etag": b'"1"'}, True),
        ({b"if-none-match": b'W/"1"'}, {b"etag": b'"1"'}, True),
        ({b"if-none-match": b'"0", "1"'}, {b"etag": b'W/"1"'}, True),
        ({b"if-none-match": b"*"}, {b"etag": b'"1"'}, True),
        ({b"if-none-match": b'"2"'}, {b"etag": b'"1"'}, False),
        ({b"if-none-match": b'"1'}, {b"etag": b'"1"'}, False),
        ({b"if-none-match": b'"1"'}, {}, False),
        (
            {b"if-none-match": b'"2"', b"if-modified-since": write_date(NOW)},
            {b"etag": b'"1"', b"last-modified": write_date(NOW)},
            False,
        ),
        ({b"if-modified-since": write_date(NOW)}, {b"last-modified": write_date(NOW)}, True),
        (
            {b"if-modified-since": write_date(NOW - timedelta(seconds=1))},
            {b"last-modified": write_date(NOW)},
            False,
        ),
        ({b"if-modified-since": b"yesterday"}, {b"last-modified": write_date(NOW)}, False),
    ],
    ids=str,
)
def test_a_client_has_it_already(asked: Headers, stored: Headers, *, same: bool) -> None:
    """If-None-Match first and weakly, then If-Modified-Since."""
    assert not_modified(asked, stored, 200) is same


def test_conditions_are_of_successes_only() -> None:
    """A stored 404 is no representation."""
    assert not not_modified({b"if-none-match": b"*"}, {b"etag": b'"1"'}, 404)


def test_a_304_replaces_headers_but_not_what_describes_the_body() -> None:
    """RFC 9111 section 3.2."""
    stored = [(b"etag", b'"1"'), (b"x", b"old"), (b"content-type", b"a/b")]
    fresh = [(b"x", b"new"), (b"date", b"d"), (b"content-type", b"c/d"), (b"content-length", b"0")]
    kept = [(b"etag", b'"1"'), (b"content-type", b"a/b"), (b"x", b"new"), (b"date", b"d")]
    assert updated(stored, fresh) == kept
    assert selects({}, {b"etag": b'"1"'})
    assert not selects({b"etag": b'"2"'}, {b"etag": b'"1"'})


@given(st.integers(86_400, 7_258_118_400).map(lambda unix_s: datetime.fromtimestamp(unix_s, UTC)))
def test_dates_survive_writing_and_reading(instant: datetime) -> None:
    """To the second."""

    assert read_date(write_date(instant)) == instant


@given(st.binary(max_size=60))
def test_no_text_breaks_the_readers(text: bytes) -> None:
    """Whatever a service says, it is read as something."""
    read_directives([text])
    read_date(text)


def test_a_query_is_the_key_in_the_order_of_its_names() -> None:
    """And what the route does not name is neither key nor sent."""
    policy = CachePolicy(query=frozenset({b"page", b"size"}))
    assert kept_query(b"size=2&utm=x&page=1", policy) == b"page=1&size=2"
    assert kept_query(b"page=2&page=1", policy) == b"page=2&page=1"
    assert kept_query(b"utm=x", policy) is None
    assert kept_query(b"%70age=1", policy) is None
    assert kept_query(b"b&a", CachePolicy()) == b"b&a"


def entry(body: bytes = b"x", vary: tuple[bytes, ...] = (), *values: bytes) -> Entry:
    return Entry(200, [], {}, body, vary, values, Freshness(0, 0, 9, 0, 0))


def test_a_request_finds_the_variant_it_would_get() -> None:
    """Spaces and case of the value do not count."""
    store, key = EntryStore(10**6), key_of(b"h", "/", None)
    names = (b"accept-language",)
    for value in (b"de", b"en"):
        store.put(key, entry(value, names, *variant_of(names, {b"accept-language": value})))
    found = store.find(key, {b"accept-language": b" EN "})
    assert found is not None
    assert found.body == b"en"
    assert store.find(key, {}) is None


def test_a_service_that_varies_without_end_keeps_a_bounded_number() -> None:
    """One page cannot fill the store."""
    store, key = EntryStore(10**9, max_variants=3), key_of(b"h", "/", None)
    for number in range(9):
        store.put(key, entry(b"x", (b"accept",), b"%d" % number))
    kept = [n for n in range(9) if store.find(key, {b"accept": b"%d" % n}) is not None]
    assert kept == [6, 7, 8]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4000)), max_size=60))
def test_the_store_never_holds_more_than_its_bound(puts: list[tuple[int, int]]) -> None:
    """And its count of bytes is the sum of what it holds."""
    store = EntryStore(10_000)
    for name, size in puts:
        store.put(key_of(b"h", f"/{name}", None), entry(b"x" * size))
        assert store.bytes <= 10_000
    held = [store.find(key_of(b"h", f"/{n}", None), {}) for n in range(10)]
    assert store.bytes == sum(one.size_bytes for one in held if one is not None)
    for name in range(10):
        store.drop_target(b"h", f"/{name}")
    assert (store.bytes, len(store)) == (0, 0)
