"""Claims about what a cache holds and which entry may stand (the pure core)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.caching.entries import (
    VERSION_LIMIT,
    Entry,
    Kind,
    Policy,
    decode,
    encode,
    lifetime_ms,
    may_replace,
)
from scalelab.errors import CorruptData, InvalidInput

versions = st.integers(min_value=1, max_value=VERSION_LIMIT - 1)
entries = st.one_of(
    st.builds(Entry, st.just(Kind.VALUE), versions, st.binary(max_size=40)),
    st.builds(Entry, st.just(Kind.ABSENT), st.integers(0, VERSION_LIMIT - 1)),
    st.builds(Entry, st.just(Kind.FENCE), versions),
)


@given(standing=entries, candidate=entries)
def test_nothing_replaces_a_newer_entry(standing: Entry, candidate: Entry) -> None:
    """I1 for any two entries."""
    if candidate.version < standing.version:
        assert not may_replace(standing, candidate)


@given(candidate=entries)
def test_anything_may_fill_an_empty_place(candidate: Entry) -> None:
    """Without a fence or a value nothing speaks against a fill."""
    assert may_replace(None, candidate)


@given(version=versions, payload=st.binary(max_size=8))
def test_a_fill_of_the_fenced_version_lifts_the_fence(version: int, payload: bytes) -> None:
    """I2: the reader that read after the commit may store."""
    assert may_replace(Entry(Kind.FENCE, version), Entry(Kind.VALUE, version, payload))


@given(version=versions)
def test_a_late_fence_does_not_remove_the_value_it_announced(version: int) -> None:
    """A reader that read after the commit was quicker than the writer's fence: its value stays."""
    assert not may_replace(Entry(Kind.VALUE, version), Entry(Kind.FENCE, version))


@given(version=versions)
def test_an_absence_does_not_cover_a_row_made_meanwhile(version: int) -> None:
    """A negative entry read before the insert carries version 0 and meets the insert's fence."""
    assert not may_replace(Entry(Kind.FENCE, version), Entry(Kind.ABSENT, 0))


@given(order=st.permutations(range(1, 6)))
def test_the_newest_version_stands_whatever_the_order_of_arrival(order: list[int]) -> None:
    """I1 over a whole history: fills in any order end with the highest version."""
    standing: Entry | None = None
    for version in order:
        candidate = Entry(Kind.VALUE, version)
        if may_replace(standing, candidate):
            standing = candidate
    assert standing == Entry(Kind.VALUE, 5)


@given(entry=entries)
def test_decode_inverts_encode(entry: Entry) -> None:
    """What was stored is what is read."""
    assert decode(encode(entry)) == entry


@given(raw=st.binary(max_size=60))
def test_any_bytes_decode_to_an_entry_or_to_corrupt_data(raw: bytes) -> None:
    """Foreign bytes under our key are an error of one known kind, never another exception."""
    try:
        entry = decode(raw)
    except CorruptData:
        return
    assert encode(entry) == raw


@given(draw=st.floats(0, 1), kind=st.sampled_from([Kind.VALUE, Kind.ABSENT]))
def test_a_lifetime_stays_between_the_jittered_and_the_full_ttl(draw: float, kind: Kind) -> None:
    """I3 for every draw."""
    policy = Policy(ttl_s=60.0, negative_ttl_s=5.0, jitter=0.25)
    full_ms = (60.0 if kind is Kind.VALUE else 5.0) * 1000
    assert 0.75 * full_ms - 1 <= lifetime_ms(policy, kind, draw) <= full_ms


def test_a_fence_gets_its_full_time_whatever_the_draw() -> None:
    """A shortened fence would reopen the gap it closes."""
    policy = Policy(fence_ttl_s=30.0)
    assert {lifetime_ms(policy, Kind.FENCE, draw) for draw in (0.0, 0.5, 1.0)} == {30_000}


def test_a_fence_shorter_than_a_load_is_refused() -> None:
    """An old read could outlive it and be stored after it."""
    with pytest.raises(InvalidInput) as caught:
        Policy(load_timeout_s=5.0, fence_ttl_s=5.0)
    assert caught.value.field == "fence_ttl_s"


@pytest.mark.parametrize("version", [-1, 0, VERSION_LIMIT])
def test_a_version_that_lua_cannot_compare_is_refused(version: int) -> None:
    """Beyond 2**53 two versions could look equal to the script."""
    with pytest.raises(InvalidInput):
        Entry(Kind.VALUE, version)
