"""Bodies on the wire: raw bytes in, payload and the first byte after the body out. No I/O.

Each decoder has `feed(data) -> (payload pieces, rest)`; rest is None while the body goes on, and
what belongs to the next message once it has ended. Nothing is buffered but a partial chunk line.

The chunked reader is stricter than RFC 9112 section 7.1 must be: line ends are CRLF, a size is 1 to
15 hex digits, an extension is short and dropped, and a trailer section is refused for requests and
dropped for responses. A trailer may name any header, after all decisions were made on the others.
"""

from __future__ import annotations

import re
from typing import Protocol

from month1_caching_gateway.gateway.heads import Framing

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e]*)?\Z")
_MAX_SIZE_LINE = 256
_MAX_TRAILERS = 4096
LAST_CHUNK = b"0\r\n\r\n"


class BadBody(Exception):
    """The body breaks the framing; nothing after it can be trusted."""


class Body(Protocol):
    """A body being read."""

    def feed(self, data: bytes) -> tuple[list[bytes], bytes | None]:
        """Payload found in `data`, and what follows the body or None. Raises BadBody."""
        ...


class LengthBody:
    """`Content-Length: n`, n >= 1."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    def feed(self, data: bytes) -> tuple[list[bytes], bytes | None]:
        size = len(data)
        if size < self._left:
            self._left -= size
            return [data], None
        if size == self._left:
            return [data], b""
        return [data[: self._left]], data[self._left :]


class CloseBody:
    """Until the connection ends; the driver says when."""

    __slots__ = ()

    def feed(self, data: bytes) -> tuple[list[bytes], bytes | None]:
        return [data], None


class ChunkedBody:
    """`Transfer-Encoding: chunked`. trailers: take and drop them, or refuse them."""

    __slots__ = ("_in_trailers", "_left", "_pending", "_trailers")

    def __init__(self, *, trailers: bool) -> None:
        self._trailers = trailers
        self._pending = b""
        self._left = 0  # of the current chunk, with the CRLF that ends it; 0 = at a size line
        self._in_trailers = False

    def feed(self, data: bytes) -> tuple[list[bytes], bytes | None]:
        data = self._pending + data if self._pending else data
        self._pending = b""
        payload: list[bytes] = []
        at = 0
        while not self._in_trailers and at < len(data):
            step = self._chunk(data, at, payload) if self._left else self._size_line(data, at)
            if step == 0:
                self._pending = data[at:]
                return payload, None
            at += step
        return payload, self._trailer_section(data[at:]) if self._in_trailers else None

    def _size_line(self, data: bytes, at: int) -> int:
        """Bytes taken; 0 = the line is not whole yet."""
        end = data.find(b"\n", at, at + _MAX_SIZE_LINE)
        if end < 0:
            if len(data) - at >= _MAX_SIZE_LINE:
                raise BadBody("a chunk's size line is too long")
            return 0
        if data[end - 1 : end] != b"\r" or end == at:
            raise BadBody("a chunk's size line does not end in CRLF")
        found = _SIZE_LINE.match(data, at, end - 1)
        if found is None:
            raise BadBody("a chunk's size is not a hexadecimal number")
        size = int(found.group(1), 16)
        if size:
            self._left = size + 2
        else:
            self._in_trailers = True
        return end + 1 - at

    def _chunk(self, data: bytes, at: int, payload: list[bytes]) -> int:
        """Bytes taken; 0 = only half of the CRLF after the chunk is here."""
        here = min(len(data) - at, self._left)
        inside = min(here, self._left - 2) if self._left > 2 else 0
        if inside:
            payload.append(data[at : at + inside])
            self._left -= inside
            return inside
        if here < 2:
            return 0
        if data[at : at + 2] != b"\r\n":
            raise BadBody("a chunk is longer than its size says")
        self._left = 0
        return 2

    def _trailer_section(self, data: bytes) -> bytes | None:
        if data.startswith(b"\r\n"):
            return data[2:]
        if not self._trailers and len(data) >= 2:
            raise BadBody("a request's trailers are not taken")
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            return data[end + 4 :]
        if len(data) > _MAX_TRAILERS:
            raise BadBody("the trailers are too long")
        self._pending = data
        return None


def open_body(framing: Framing, length: int, *, trailers: bool) -> Body | None:
    """The decoder for a head's framing; None where there is no body."""
    if framing is Framing.LENGTH:
        return LengthBody(length)
    if framing is Framing.CHUNKED:
        return ChunkedBody(trailers=trailers)
    if framing is Framing.CLOSE:
        return CloseBody()
    return None


def chunks(pieces: list[bytes], *, ended: bool) -> list[bytes]:
    """Payload as it goes through a chunked body; ended: with that body's end."""
    framed = [chunk(piece) for piece in pieces]
    return [*framed, LAST_CHUNK] if ended else framed


def chunk(payload: bytes) -> bytes:
    """One chunk on the wire. payload: not empty; an empty one would end the body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)
