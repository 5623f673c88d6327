"""Claims about frames: F1 to F4 of month5_kvstore/log/frame.py."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from month5_kvstore.log.frame import (
    HEADER_BYTES,
    OVERHEAD_BYTES,
    SECTOR,
    Damaged,
    Frame,
    Place,
    Torn,
    encode,
    read,
)
from scalelab.errors import InvalidInput

# Pieces with whole sectors of zeros among them: what a torn frame and a body may have in common.
pieces = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=40),
        st.integers(1, 1500).map(bytes),
        st.integers(1, 900).map(lambda size: b"\xff" * size),
    ),
    min_size=1,
    max_size=5,
)
bodies = pieces.map(b"".join)
starts = st.integers(0, 2 * SECTOR)


@settings(max_examples=60)
@given(body=bodies, start=starts, number=st.integers(1, 2**40))
def test_a_frame_is_read_back_as_it_was_written(body: bytes, start: int, number: int) -> None:
    """F1."""
    data = bytes(start) + encode(body, number, Place(3, start))
    assert read(data, Place(3, start), number) == Frame(number, body, len(data))
    assert read(data, Place(3, len(data)), number + 1) is None


@settings(max_examples=60)
@given(body=bodies)
def test_a_frame_in_a_wrong_place_or_order_is_refused(body: bytes) -> None:
    """F1: another segment, offset or number."""
    data = encode(body, 5, Place(3, 0))
    for found in (
        read(data, Place(4, 0), 5),
        read(data, Place(3, 0), 6),
        read(b"x" + data, Place(3, 1), 5),
    ):
        assert isinstance(found, Damaged)


@settings(max_examples=60)
@given(body=bodies, start=starts, data=st.data())
def test_the_last_frame_cut_at_any_byte_is_torn(
    body: bytes, start: int, data: st.DataObject
) -> None:
    """F2: the file ends there, or zeros follow where its length reached the disk first."""
    whole = encode(body, 7, Place(1, start))
    cut = data.draw(st.integers(1, len(whole) - 1))
    before = b"s" * start
    assert read(before + whole[:cut], Place(1, start), 7) == Torn(start)
    zeros = bytes(len(whole) - cut)
    assert read(before + whole[:cut] + zeros, Place(1, start), 7) == Torn(start)
    assert read(before + bytes(len(whole)), Place(1, start), 7) == Torn(start)


@settings(max_examples=60)
@given(body=bodies, start=starts, data=st.data())
def test_the_last_frame_without_some_of_its_sectors_is_torn(
    body: bytes, start: int, data: st.DataObject
) -> None:
    """F2: sectors reach the disk in any order."""
    whole = b"s" * start + encode(body, 7, Place(1, start))
    sectors = range(start // SECTOR, (len(whole) - 1) // SECTOR + 1)
    lost = data.draw(st.sets(st.sampled_from(sectors), min_size=1))
    left = bytearray(whole)
    for sector in lost:
        first = max(start, sector * SECTOR)
        left[first : (sector + 1) * SECTOR] = bytes(len(left[first : (sector + 1) * SECTOR]))
    found = read(bytes(left), Place(1, start), 7)
    if bytes(left) == whole:  # only zeros were lost
        assert isinstance(found, Frame)
    else:
        assert found == Torn(start)


@settings(max_examples=60)
@given(body=bodies, start=starts, data=st.data())
def test_one_changed_bit_in_the_last_frame_is_damage(
    body: bytes, start: int, data: st.DataObject
) -> None:
    """F3: it was whole, so it may have been acknowledged."""
    whole = bytearray(b"s" * start + encode(body, 7, Place(1, start)))
    bit = data.draw(st.integers(start * 8, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    assert isinstance(read(bytes(whole), Place(1, start), 7), Damaged)


def test_every_bit_of_a_short_frame_is_watched() -> None:
    """F3, without chance."""
    whole = encode(b"a body" + bytes(600), 1, Place(1, 0))
    for bit in range(len(whole) * 8):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        assert isinstance(read(bytes(changed), Place(1, 0), 1), Damaged), bit


@settings(max_examples=60)
@given(first=bodies, second=bodies, data=st.data())
def test_an_unreadable_frame_before_a_later_one_is_damage(
    first: bytes, second: bytes, data: st.DataObject
) -> None:
    """F4: it had been synced before the later one was begun. Zeroed here from any byte on."""
    earlier = encode(first, 1, Place(1, 0))
    later = encode(second, 2, Place(1, len(earlier)))
    cut = data.draw(st.integers(0, len(earlier) - 1))
    changed = earlier[:cut] + bytes(len(earlier) - cut)
    if changed != earlier:
        assert isinstance(read(changed + later, Place(1, 0), 1), Damaged)


def test_the_documented_bytes_are_the_ones_of_a_frame() -> None:
    """Another program could read the log by the layout alone."""
    data = encode(b"hi", 258, Place(1, 0))
    assert len(data) == OVERHEAD_BYTES + 2
    assert data[:4] == b"SLF\x01"
    assert data[4:20].hex(" ") == "02 00 00 00 02 01 00 00 00 00 00 00 00 00 00 00"
    assert data[HEADER_BYTES - 1] == 0x5A
    assert data[HEADER_BYTES : HEADER_BYTES + 2] == b"hi"
    assert data[-1] == 0xA5


def test_an_empty_body_and_an_offset_over_the_limit_are_refused() -> None:
    with pytest.raises(InvalidInput):
        encode(b"", 1, Place(1, 0))
    with pytest.raises(InvalidInput):
        encode(b"x", 1, Place(1, 1 << 32))
