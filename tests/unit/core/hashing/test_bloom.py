"""Bloom filter: nothing lost, as many wrong yeses as theory says, and bytes that are checked."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from scalelab.errors import CorruptData, InvalidInput
from scalelab.hashing import BloomFilter, Sizing, size_for

KEYS = st.lists(st.text(max_size=8), max_size=40)
SIZINGS = st.builds(Sizing, st.integers(1, 60).map(lambda size: size * 8), st.integers(1, 9))


@given(KEYS, SIZINGS)
def test_a_key_added_is_always_found(keys: list[str], sizing: Sizing) -> None:
    """I1, however overfull the filter."""
    held = BloomFilter.holding(keys, sizing)
    assert all(key in held for key in keys)
    assert held.added == len(keys)


@pytest.mark.parametrize("wanted", [0.05, 0.01])
def test_false_positives_are_as_frequent_as_theory_says(wanted: float) -> None:
    """I2: within 15 % over 100,000 absent keys, at the capacity."""
    sizing = size_for(10_000, wanted)
    held = BloomFilter.holding((f"in-{number}" for number in range(10_000)), sizing)
    found = sum(f"out-{number}" in held for number in range(100_000)) / 100_000
    theory = sizing.false_positive_rate(10_000)
    assert found == pytest.approx(theory, rel=0.15)
    assert theory == pytest.approx(wanted, rel=0.03)
    assert held.fill_ratio() == pytest.approx(0.5, abs=0.03)


def test_no_false_negative_and_false_positives_as_theory_says_at_size(
    count: Callable[..., int],
) -> None:
    """I1 and I2: ten million keys that are in, as many that are not, over ten filters."""
    checks = count(10_000_000, share=0.01)
    filters, passed = 10, 0
    each = checks // filters
    sizing = size_for(each, 0.01)
    for number in range(filters):
        held = BloomFilter.holding((f"{number}-in-{key}" for key in range(each)), sizing)
        assert all(f"{number}-in-{key}" in held for key in range(each))
        passed += sum(f"{number}-out-{key}" in held for key in range(each))
    assert passed / (each * filters) == pytest.approx(sizing.false_positive_rate(each), rel=0.15)


def test_size_is_what_the_formula_says() -> None:
    """9.6 bits and 7 hashes a key for 1 %; never less than a byte and a hash."""
    assert size_for(1_000_000, 0.01) == Sizing(9_585_064, 7)
    assert size_for(1, 0.99) == Sizing(8, 6)


@given(KEYS, KEYS, SIZINGS)
def test_a_union_is_the_filter_of_all_keys(
    one: list[str], other: list[str], sizing: Sizing
) -> None:
    """I1 and I4: the same bytes as a filter that saw both lists."""
    a, b = BloomFilter.holding(one, sizing), BloomFilter.holding(other, sizing)
    both = BloomFilter.holding(one + other, sizing)
    assert a.union(b).to_bytes() == b.union(a).to_bytes() == both.to_bytes()


@given(KEYS, SIZINGS)
def test_bytes_come_back_as_the_same_filter(keys: list[str], sizing: Sizing) -> None:
    """I3: and it can be added to."""
    back = BloomFilter.from_bytes(BloomFilter.holding(keys, sizing).to_bytes())
    assert (back.sizing, back.added) == (sizing, len(keys))
    assert all(key in back for key in keys)
    back.add("later")
    assert "later" in back


def test_bytes_are_the_same_on_every_machine() -> None:
    """A stored filter outlives the process and the version that wrote it."""
    assert BloomFilter.holding("abc", Sizing(64, 3)).to_bytes().hex() == (
        "534c42460140000000000000000300030000000000000000088088808000a04a1ceca7301af8e6"
    )


@given(st.data())
def test_any_damage_is_refused(data: st.DataObject) -> None:
    """I3: a flipped bit anywhere, or an end that is missing."""
    raw = BloomFilter.holding(["a", "b"], Sizing(64, 3)).to_bytes()
    place = data.draw(st.integers(0, len(raw) * 8 - 1))
    flipped = bytearray(raw)
    flipped[place // 8] ^= 1 << place % 8
    with pytest.raises(CorruptData):
        BloomFilter.from_bytes(bytes(flipped))
    with pytest.raises(CorruptData):
        BloomFilter.from_bytes(raw[: data.draw(st.integers(0, len(raw) - 1))])


@pytest.mark.parametrize(("bits", "hashes", "size"), [(2**40, 3, 8), (64, 0, 8), (0, 3, 0)])
def test_a_header_that_lies_is_refused(bits: int, hashes: int, size: int) -> None:
    """With a right checksum too; nothing is allocated on the header's word."""
    body = struct.pack("<5sQHQ", b"SLBF\x01", bits, hashes, 0) + bytes(size)
    with pytest.raises(CorruptData):
        BloomFilter.from_bytes(body + struct.pack("<Q", xxhash.xxh3_64_intdigest(body)))


def test_what_cannot_be_is_refused() -> None:
    """Filters of different size, and sizes that are none."""
    with pytest.raises(InvalidInput):
        BloomFilter(Sizing(64, 3)).union(BloomFilter(Sizing(64, 4)))
    for bits, hashes in ((0, 1), (12, 1), (8, 0), (8, 65)):
        with pytest.raises(InvalidInput):
            Sizing(bits, hashes)
    for capacity, rate in ((0, 0.01), (10, 0.0), (10, 1.0), (10, float("nan"))):
        with pytest.raises(InvalidInput):
            size_for(capacity, rate)
