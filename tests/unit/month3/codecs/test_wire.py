"""Varints, zigzag and texts (W1, W2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month3_messaging.codecs import InvalidUtf8, WrongSchema, wire
from scalelab.errors import InvalidInput

signed = st.integers(-(1 << 63), (1 << 63) - 1)


def test_three_hundred_is_two_bytes() -> None:
    """The example of the Protobuf manual."""
    out = bytearray()
    wire.append_varint(out, 300)
    assert bytes(out) == b"\xac\x02"


@given(number=st.integers(0, (1 << 64) - 1))
def test_a_varint_is_read_back_in_a_byte_for_each_seven_bits(number: int) -> None:
    """W1."""
    out = bytearray()
    wire.append_varint(out, number)
    assert wire.Reader(bytes(out)).varint() == number
    assert len(out) == max(1, -(-number.bit_length() // 7))


@given(number=signed)
def test_both_foldings_are_undone(number: int) -> None:
    """W1: zigzag and two's complement."""
    assert wire.unzigzag(wire.zigzag(number)) == number
    assert wire.to_signed(wire.to_unsigned(number)) == number


@pytest.mark.parametrize(("number", "folded"), [(0, 0), (-1, 1), (1, 2), (-2, 3), (2**31, 2**32)])
def test_zigzag_makes_small_numbers_small(number: int, folded: int) -> None:
    """The specification's table."""
    assert wire.zigzag(number) == folded


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\xff" * 10, b"\xff" * 9 + b"\x02"], ids=["none", "cut", "long", "65"]
)
def test_a_varint_without_end_or_too_large_is_refused(data: bytes) -> None:
    """W2."""
    with pytest.raises(WrongSchema):
        wire.Reader(data).varint()


@pytest.mark.parametrize("size", [-1, 4, 1 << 60])
def test_nothing_is_read_beyond_the_end(size: int) -> None:
    """W2: whatever length the bytes claim."""
    reader = wire.Reader(b"abc")
    with pytest.raises(WrongSchema):
        reader.take(size)
    assert reader.take(3) == b"abc"


def test_what_is_no_text_is_told() -> None:
    """In both directions."""
    with pytest.raises(InvalidUtf8) as told:
        wire.to_text(b"\xff")
    assert told.value.stable_code == "invalid_utf8"
    with pytest.raises(InvalidInput):
        wire.to_utf8("\ud800")
