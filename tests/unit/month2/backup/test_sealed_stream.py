"""What opens is what was sealed, whole and under its own name."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.backup.sealed_stream import CHUNK_BYTES, PieceReader, seal, unseal
from scalelab.errors import CorruptData, InvalidInput

KEY = bytes(range(32))


def sealed(plain: bytes, name: str = "wal/1") -> bytes:
    return b"".join(seal(io.BytesIO(plain), KEY, name))


def opened(data: bytes, *, key: bytes = KEY, name: str = "wal/1") -> bytes:
    return b"".join(unseal(io.BytesIO(data), key, name))


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 200_000])
def test_a_stream_of_any_length_opens_as_it_was(size: int) -> None:
    """I1 at the edges of chunks."""
    plain = bytes(number % 251 for number in range(size))
    assert opened(sealed(plain)) == plain


@given(st.integers(min_value=0, max_value=8 * 150_000 - 1))
def test_any_flipped_bit_is_noticed(bit: int) -> None:
    """I1: header, chunks and tags alike."""
    data = bytearray(sealed(bytes(149_900)))
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    with pytest.raises(CorruptData) as refused:
        opened(bytes(data))
    assert refused.value.stable_code == "backup_corrupt"


@given(st.integers(min_value=0, max_value=131_200))
def test_a_stream_cut_short_anywhere_is_noticed(length: int) -> None:
    """I1, I3: also exactly between two chunks."""
    data = sealed(bytes(2 * CHUNK_BYTES))
    with pytest.raises(CorruptData):
        opened(data[: min(length, len(data) - 1)])


def test_chunks_that_changed_places_are_noticed() -> None:
    """I1: the chunk's number is in its nonce."""
    data = sealed(bytes(3 * CHUNK_BYTES))
    head, size = 43, CHUNK_BYTES + 16
    first, second = data[head : head + size], data[head + size : head + 2 * size]
    with pytest.raises(CorruptData):
        opened(data[:head] + second + first + data[head + 2 * size :])


def test_bytes_added_at_the_end_are_noticed() -> None:
    """I1."""
    with pytest.raises(CorruptData):
        opened(sealed(b"log") + b"x")


def test_a_file_opens_only_under_its_own_name() -> None:
    """I2: a segment cannot be passed off as another."""
    with pytest.raises(CorruptData):
        opened(sealed(b"log"), name="wal/2")


def test_another_key_opens_nothing() -> None:
    with pytest.raises(CorruptData):
        opened(sealed(b"log"), key=bytes(32))


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidInput):
        list(seal(io.BytesIO(b""), b"short", "wal/1"))


def test_two_seals_of_the_same_bytes_differ() -> None:
    """Each file has its own salt and key."""
    assert sealed(b"same") != sealed(b"same")


@given(st.lists(st.binary(max_size=9)), st.integers(min_value=1, max_value=7))
def test_pieces_read_as_a_file_give_the_same_bytes(pieces: list[bytes], size: int) -> None:
    reader, found = PieceReader(pieces), b""
    while piece := reader.read(size):
        assert len(piece) <= size
        found += piece
    assert found == b"".join(pieces)
