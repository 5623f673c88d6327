"""Frames in a stream of bytes: by a length in front, or by a line feed behind.

TCP carries bytes, not messages: what one side writes in two calls may arrive in one, and the other
way round. A decoder is fed whatever arrived and gives back whole frames, whichever way the bytes
were cut (I1).

Invariants (tests cite them)
    I1  The frames depend on the bytes only, never on where they were cut.
    I2  No decoder holds more than one frame of `limit` bytes and one fed piece.
    I3  A frame over the limit is refused when its length is known, before its bytes are kept.
    I4  After an error a decoder gives nothing more: what follows cannot be told from rubbish.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable

from scalelab.errors import CorruptData, InvalidInput, TooLarge

_LENGTH = struct.Struct(">I")
LARGEST_FRAME = 2**32 - 1
"""What four bytes of length can say."""


class Decoder(ABC):
    """Pieces in, frames out. limit: the largest frame in bytes, without its length or line feed."""

    def __init__(self, limit: int) -> None:
        if not 1 <= limit <= LARGEST_FRAME:
            raise InvalidInput(f"a frame's limit of {limit} bytes", field="limit")
        self.limit = limit
        self._held = bytearray()
        self._error: TooLarge | None = None

    @property
    def pending(self) -> bool:
        """Whether a frame has begun that has not ended."""
        return bool(self._held)

    def feed(self, piece: bytes) -> None:
        """Take what arrived. Take the frames out with `next_frame` before feeding more (I2)."""
        self._held += piece

    def next_frame(self) -> bytes | None:
        """The next whole frame, or None until more is fed.

        Raises TooLarge (`frame_too_large`), now and at every later call.
        """
        if self._error is None:
            try:
                return self._cut(self._held)
            except TooLarge as error:
                self._held.clear()
                self._error = error
        raise self._error

    def finish(self) -> None:
        """The stream has ended. Raises CorruptData (`frame_truncated`) inside a frame."""
        if self._held:
            raise CorruptData(
                f"the stream ended {len(self._held)} bytes into a frame", code="frame_truncated"
            )

    @abstractmethod
    def _cut(self, held: bytearray) -> bytes | None:
        """Remove and return the first frame of `held`, None if it is not whole."""

    def _refuse(self, size: int) -> TooLarge:
        return TooLarge(
            f"a frame of at least {size} bytes where {self.limit} are allowed",
            code="frame_too_large",
        )


class LengthPrefixed(Decoder):
    """Four bytes of length, most significant first, then so many bytes. Any bytes may be sent."""

    def _cut(self, held: bytearray) -> bytes | None:
        if len(held) < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(held)
        if size > self.limit:
            raise self._refuse(size)
        end = _LENGTH.size + size
        if len(held) < end:
            return None
        frame = bytes(held[_LENGTH.size : end])
        del held[:end]
        return frame


class Lines(Decoder):
    """Bytes up to a line feed, which is no part of the frame; a carriage return before it is."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._searched = 0

    def _cut(self, held: bytearray) -> bytes | None:
        # Where no line feed was seen none is looked for again: a long line in small pieces is
        # linear, not quadratic.
        end = held.find(b"\n", self._searched)
        self._searched = len(held) if end < 0 else 0
        size = len(held) if end < 0 else end
        if size > self.limit:
            raise self._refuse(size)
        if end < 0:
            return None
        frame = bytes(held[:end])
        del held[: end + 1]
        return frame


def prefixed(payload: bytes) -> bytes:
    """A frame for LengthPrefixed."""
    return _LENGTH.pack(len(payload)) + payload


def line(payload: bytes) -> bytes:
    """A frame for Lines. Raises InvalidInput if the payload has a line feed: it would be two."""
    if b"\n" in payload:
        raise InvalidInput("a line feed inside a line", field="payload")
    return payload + b"\n"


class Framing:
    """Both directions of one framing. name: as on the command line."""

    def __init__(
        self, name: str, encode: Callable[[bytes], bytes], decoder: Callable[[int], Decoder]
    ) -> None:
        self.name = name
        self.encode = encode
        self.decoder = decoder


LENGTH = Framing("length", prefixed, LengthPrefixed)
LINES = Framing("lines", line, Lines)
FRAMINGS = {framing.name: framing for framing in (LENGTH, LINES)}
