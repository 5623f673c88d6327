"""Frames in a stream, for any bytes and any cuts (invariants of sockets/framing.py)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.sockets import FRAMINGS, LENGTH, LINES, Decoder, Framing
from scalelab.errors import CorruptData, InvalidInput, TooLarge

payloads = st.lists(st.binary(max_size=40), max_size=12)


def decoded(decoder: Decoder, pieces: list[bytes]) -> list[bytes]:
    """All frames of a stream that was cut into `pieces`."""
    frames: list[bytes] = []
    for piece in pieces:
        decoder.feed(piece)
        while (frame := decoder.next_frame()) is not None:
            frames.append(frame)
    return frames


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """The stream in pieces, cut at the places."""
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[begin:end] for begin, end in itertools.pairwise(edges)]


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
@given(sent=payloads, places=st.lists(st.integers(min_value=0), max_size=20))
def test_frames_do_not_depend_on_where_the_stream_was_cut(
    framing: Framing, sent: list[bytes], places: list[int]
) -> None:
    """I1: every cutting gives what was sent, and nothing is left over."""
    if framing is LINES:
        sent = [payload.replace(b"\n", b" ") for payload in sent]
    stream = b"".join(framing.encode(payload) for payload in sent)
    decoder = framing.decoder(40)
    assert decoded(decoder, cut(stream, places)) == sent
    assert not decoder.pending
    decoder.finish()


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
def test_a_stream_that_ends_inside_a_frame_is_said_to_be_truncated(framing: Framing) -> None:
    """With a stable code; a whole frame before it was given."""
    decoder = framing.decoder(100)
    stream = framing.encode(b"whole") + framing.encode(b"half")[:-1]
    assert decoded(decoder, [stream]) == [b"whole"]
    assert decoder.pending
    with pytest.raises(CorruptData) as refused:
        decoder.finish()
    assert refused.value.stable_code == "frame_truncated"


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
def test_a_frame_over_the_limit_is_refused_for_good(framing: Framing) -> None:
    """I3, I4: what came before it is given, nothing after it, and its bytes are not kept."""
    decoder = framing.decoder(10)
    decoder.feed(framing.encode(b"fits") + framing.encode(b"x" * 11) + framing.encode(b"after"))
    assert decoder.next_frame() == b"fits"
    for _ in range(2):
        with pytest.raises(TooLarge) as refused:
            decoder.next_frame()
        assert refused.value.stable_code == "frame_too_large"
    assert not decoder.pending


def test_a_length_is_refused_before_its_bytes_come() -> None:
    """I3: four bytes that promise 4 GiB are enough."""
    decoder = LENGTH.decoder(1 << 20)
    decoder.feed(b"\xff\xff\xff\xff")
    with pytest.raises(TooLarge):
        decoder.next_frame()


def test_a_line_without_an_end_is_refused_at_the_limit() -> None:
    """I2: no more than the limit and one piece is ever held."""
    decoder = LINES.decoder(8)
    decoder.feed(b"12345678")
    assert decoder.next_frame() is None
    decoder.feed(b"9")
    with pytest.raises(TooLarge):
        decoder.next_frame()


def test_a_line_feed_inside_a_line_is_the_sender_s_mistake() -> None:
    """It would arrive as two lines."""
    with pytest.raises(InvalidInput):
        LINES.encode(b"one\ntwo")


@pytest.mark.parametrize("limit", [0, -1, 2**32])
def test_a_limit_must_make_sense(limit: int) -> None:
    """At least a byte, at most what the length can say."""
    with pytest.raises(InvalidInput):
        LENGTH.decoder(limit)
