"""A server's half of RFC 6455: the same messages however the bytes are cut, and every violation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month3_messaging.status.frames import (
    CloseCode,
    FrameReader,
    Message,
    Opcode,
    ProtocolError,
    accept_key,
    encode,
    encode_close,
)

LIMIT = 200
MASK = b"\x01\x02\x03\x04"


def masked(opcode: int, data: bytes, *, final: bool = True, reserved: int = 0) -> bytes:
    """A frame as a client sends it."""
    first = (0x80 if final else 0) | reserved | opcode
    size = len(data)
    if size <= 125:
        head = bytes((first, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((first, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0x80 | 127)) + size.to_bytes(8, "big")
    return head + MASK + bytes(byte ^ MASK[i % 4] for i, byte in enumerate(data))


def read(stream: bytes, *, cut: int | None = None) -> list[Message]:
    reader = FrameReader(LIMIT)
    pieces = [stream] if cut is None else [stream[i : i + cut] for i in range(0, len(stream), cut)]
    return [message for piece in pieces for message in reader.feed(piece)]


STREAM = (
    masked(Opcode.TEXT, "né".encode())
    + masked(Opcode.TEXT, b"one ", final=False)
    + masked(Opcode.PING, b"there?")
    + masked(Opcode.CONTINUATION, b"two", final=True)
    + masked(Opcode.BINARY, bytes(range(150)))
    + masked(Opcode.CLOSE, b"\x03\xe8bye")
)
MESSAGES = [
    Message(Opcode.TEXT, "né".encode()),
    Message(Opcode.PING, b"there?"),
    Message(Opcode.TEXT, b"one two"),
    Message(Opcode.BINARY, bytes(range(150))),
    Message(Opcode.CLOSE, b"\x03\xe8bye"),
]


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 64, None])
def test_the_cuts_of_the_stream_do_not_matter(cut: int | None) -> None:
    """W1."""
    assert read(STREAM, cut=cut) == MESSAGES


@given(st.lists(st.binary(max_size=60), max_size=6), st.integers(1, 50))
def test_what_a_client_sends_is_what_comes_out(messages: list[bytes], cut: int) -> None:
    """W1 for any binary messages."""
    stream = b"".join(masked(Opcode.BINARY, data) for data in messages)
    assert [message.data for message in read(stream, cut=cut)] == messages


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (encode(Opcode.TEXT, b"unmasked"), CloseCode.PROTOCOL_ERROR),
        (masked(Opcode.TEXT, b"x", reserved=0x40), CloseCode.PROTOCOL_ERROR),
        (masked(0x3, b"x"), CloseCode.PROTOCOL_ERROR),
        (masked(0xB, b"x"), CloseCode.PROTOCOL_ERROR),
        (masked(Opcode.PING, b"x", final=False), CloseCode.PROTOCOL_ERROR),
        (masked(Opcode.PING, b"x" * 126), CloseCode.PROTOCOL_ERROR),
        (masked(Opcode.CONTINUATION, b"x"), CloseCode.PROTOCOL_ERROR),
        (masked(Opcode.TEXT, b"x", final=False) * 2, CloseCode.PROTOCOL_ERROR),
        (masked(Opcode.TEXT, b"\xff"), CloseCode.INVALID_TEXT),
        (masked(Opcode.CLOSE, b"\x03"), CloseCode.PROTOCOL_ERROR),
        (masked(Opcode.CLOSE, b"\x03\xed"), CloseCode.PROTOCOL_ERROR),
        (masked(Opcode.CLOSE, b"\x03\xe8\xff"), CloseCode.INVALID_TEXT),
        (masked(Opcode.TEXT, b"x" * (LIMIT + 1)), CloseCode.TOO_BIG),
        (
            masked(Opcode.TEXT, b"x" * LIMIT, final=False) + masked(Opcode.CONTINUATION, b"y"),
            CloseCode.TOO_BIG,
        ),
        (b"\x81\xff" + b"\xff" * 8, CloseCode.TOO_BIG),
    ],
)
def test_a_violation_ends_the_reading(stream: bytes, code: CloseCode) -> None:
    """W3, with the code that the peer is told; a size is refused before its bytes have come."""
    reader = FrameReader(LIMIT)
    with pytest.raises(ProtocolError) as raised:
        list(reader.feed(stream))
    assert raised.value.close_code is code
    assert reader.broken
    assert list(reader.feed(masked(Opcode.TEXT, b"more"))) == []


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_messages_or_a_violation(data: bytes) -> None:
    """Whatever comes."""
    reader = FrameReader(LIMIT)
    try:
        for message in reader.feed(data):
            assert len(message.data) <= LIMIT
    except ProtocolError:
        assert reader.broken


def test_the_answer_to_the_key_is_the_rfcs() -> None:
    """The example of RFC 6455, section 1.3."""
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_servers_frame_says_its_size_in_the_shortest_form(size: int) -> None:
    """RFC 6455 section 5.2."""
    frame = encode(Opcode.TEXT, b"x" * size)
    head = 2 if size <= 125 else 4 if size < 1 << 16 else 10
    assert len(frame) == head + size


def test_a_reason_is_cut_at_a_character() -> None:
    """A control frame holds 125 bytes; half a character would not be UTF-8."""
    frame = encode_close(CloseCode.NORMAL, "ü" * 100)
    assert len(frame) <= 127
    assert frame[4:].decode() == "ü" * 61
