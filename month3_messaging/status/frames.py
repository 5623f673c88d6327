"""WebSocket frames: bytes in, whole messages out; a server's half of RFC 6455. Pure.

Theory of operation
    A client's frames are masked and may cut a message into pieces, with control frames between
    the pieces; a server's are neither. `FrameReader` keeps what has come of one message, at most
    `limit` bytes, and refuses whatever the RFC lets no client send. No extension is offered, so
    no reserved bit may be set.

Invariants (tests cite them)
    W1  However the bytes are cut, the same messages come out.
    W2  At most `limit` bytes and one frame's head are held for a message that is not complete.
    W3  Nothing comes out after a violation.
Source: RFC 6455, sections 5 and 7.4; absent on purpose: extensions and a client's half.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from scalelab.errors import InvalidInput

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTROL_MAX = 125
_CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


class Opcode(IntEnum):
    """What a frame carries."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class CloseCode(IntEnum):
    """Why a connection ends, as this server says it (RFC 6455 section 7.4.1)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_TEXT = 1007
    POLICY_VIOLATION = 1008
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011


class ProtocolError(InvalidInput):
    """The peer broke the protocol; `close_code` is what it is told."""

    code = "websocket_protocol"

    def __init__(self, message: str, close_code: CloseCode) -> None:
        super().__init__(message)
        self.close_code = close_code


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message, or a control frame. TEXT's data is valid UTF-8."""

    opcode: Opcode
    data: bytes


def accept_key(key: str) -> str:
    """The Sec-WebSocket-Accept that answers a Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()


def encode(opcode: Opcode, data: bytes) -> bytes:
    """One frame from a server: final, unmasked."""
    size = len(data)
    if size <= _CONTROL_MAX:
        return bytes((0x80 | opcode, size)) + data
    if size < 1 << 16:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + data
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big") + data


def encode_close(code: CloseCode, reason: str = "") -> bytes:
    """A close frame; the reason is cut to what fits."""
    said = reason.encode()[: _CONTROL_MAX - 2].decode(errors="ignore").encode()
    return encode(Opcode.CLOSE, code.to_bytes(2, "big") + said)


class FrameReader:
    """Reads a client's bytes. limit: bytes of one message, pieces together."""

    __slots__ = ("_broken", "_kind", "_limit", "_parts", "_pending")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pending = b""
        self._kind: Opcode | None = None
        self._parts: bytes = b""
        self._broken = False

    @property
    def broken(self) -> bool:
        """Whether the peer broke the protocol; nothing is read any more."""
        return self._broken

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that `data` completes, in order. Raises ProtocolError."""
        if self._broken:
            return
        self._pending += data
        try:
            while (frame := self._frame()) is not None:
                message = self._message(*frame)
                if message is not None:
                    yield message
        except ProtocolError:
            self._broken = True
            self._pending = self._parts = b""
            raise

    def _frame(self) -> tuple[bool, Opcode, bytes] | None:
        """final, opcode, payload of the next whole frame."""
        pending = self._pending
        if len(pending) < 2:
            return None
        final, opcode = bool(pending[0] & 0x80), _opcode(pending[0])
        if not pending[1] & 0x80:
            raise ProtocolError("a client's frame is masked", CloseCode.PROTOCOL_ERROR)
        size, start = pending[1] & 0x7F, 2
        if opcode >= Opcode.CLOSE and (size > _CONTROL_MAX or not final):
            raise ProtocolError("a control frame is short and whole", CloseCode.PROTOCOL_ERROR)
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(pending) < start:
                return None
            size = int.from_bytes(pending[2:start], "big")
        if opcode < Opcode.CLOSE and len(self._parts) + size > self._limit:
            raise ProtocolError(f"more than {self._limit} bytes", CloseCode.TOO_BIG)
        end = start + 4 + size
        if len(pending) < end:
            return None
        self._pending = pending[end:]
        return final, opcode, _unmask(pending[start : start + 4], pending[start + 4 : end])

    def _message(self, final: bool, opcode: Opcode, data: bytes) -> Message | None:
        if opcode >= Opcode.CLOSE:
            if opcode is Opcode.CLOSE:
                _check_close(data)
            return Message(opcode, data)
        if (opcode is Opcode.CONTINUATION) != (self._kind is not None):
            raise ProtocolError("pieces of messages are mixed up", CloseCode.PROTOCOL_ERROR)
        kind = self._kind or opcode
        whole = self._parts + data
        if not final:
            self._kind, self._parts = kind, whole
            return None
        self._kind, self._parts = None, b""
        if kind is Opcode.TEXT:
            _check_text(whole)
        return Message(kind, whole)


def _opcode(first: int) -> Opcode:
    if first & 0x70:
        raise ProtocolError("no extension was agreed on", CloseCode.PROTOCOL_ERROR)
    try:
        return Opcode(first & 0x0F)
    except ValueError as error:
        raise ProtocolError("no such opcode", CloseCode.PROTOCOL_ERROR) from error


def _unmask(mask: bytes, data: bytes) -> bytes:
    """XOR with the mask repeated, as two large integers: one operation instead of one a byte."""
    size = len(data)
    repeated = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")


def _check_text(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError("text is UTF-8", CloseCode.INVALID_TEXT) from error


def _check_close(data: bytes) -> None:
    if not data:
        return
    code = int.from_bytes(data[:2], "big")
    if len(data) == 1 or not (code in _CLOSE_CODES or 3000 <= code <= 4999):
        raise ProtocolError("no such close code", CloseCode.PROTOCOL_ERROR)
    _check_text(data[2:])
