"""Jump hash: monotone, even, and as published."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.errors import InvalidInput
from scalelab.hashing import jump, jump_for_key

DIGESTS = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize(
    ("digest", "buckets", "bucket"),
    [(1, 1, 0), (42, 57, 43), (0xDEAD10CC, 1, 0), (0xDEAD10CC, 666, 361), (256, 1024, 520)],
)
def test_answers_are_those_of_other_implementations(digest: int, buckets: int, bucket: int) -> None:
    """I3: vectors that libraries in several languages share."""
    assert jump(digest, buckets) == bucket


def test_known_keys_stay_where_they_are() -> None:
    """I3 for keys: the hash in front is part of the promise."""
    assert [jump_for_key(key, 10) for key in "abcdef"] == [8, 2, 6, 6, 5, 2]


@given(DIGESTS, st.integers(1, 2**31 - 2))
def test_a_key_stays_or_moves_to_the_new_bucket(digest: int, buckets: int) -> None:
    """I1 and I2."""
    before, after = jump(digest, buckets), jump(digest, buckets + 1)
    assert 0 <= before < buckets
    assert after in {before, buckets}


def test_buckets_are_even_and_growth_moves_the_least() -> None:
    """Of 20,000 keys in 10 buckets none is 10 % off the mean; the 11th takes 1/11 within 8 %."""
    keys = [f"key-{number}" for number in range(20_000)]
    before = [jump_for_key(key, 10) for key in keys]
    after = [jump_for_key(key, 11) for key in keys]
    loads = Counter(before).values()
    assert len(loads) == 10
    assert all(load == pytest.approx(2_000, rel=0.1) for load in loads)
    moved = sum(old != new for old, new in zip(before, after, strict=True))
    assert moved / len(keys) == pytest.approx(1 / 11, rel=0.08)


@pytest.mark.parametrize("buckets", [0, -1, 2**31])
def test_a_number_of_buckets_that_cannot_be_is_refused(buckets: int) -> None:
    """None, and more than the arithmetic can tell apart."""
    with pytest.raises(InvalidInput):
        jump(1, buckets)
