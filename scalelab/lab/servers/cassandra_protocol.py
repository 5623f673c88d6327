"""Just enough of Cassandra's native protocol to ask a node whether it serves: one query, parsed.

Version 4, no compression. A frame is version, flags, stream (2 bytes), opcode, length (4 bytes),
body; numbers are big-endian. The client says STARTUP, the node READY, then QUERY is answered by
RESULT or ERROR. Answers come without the description of their columns: cells stay bytes.
Source: the CQL binary protocol specification, version 4.
"""

from __future__ import annotations

import socket
import struct

from scalelab.errors import CorruptData, ScalelabError

_REQUEST, _RESPONSE = 0x04, 0x84
_ERROR, _STARTUP, _READY, _QUERY, _RESULT = 0x00, 0x01, 0x02, 0x07, 0x08
_ROWS = 2
_SKIP_METADATA = 0x02
_MORE_PAGES, _NO_METADATA = 0x02, 0x04
_LARGEST_ANSWER = 1 << 20

ONE, ALL = 0x0001, 0x0005
"""Consistency levels by their number in the protocol."""

Row = tuple[bytes | None, ...]


class Refused(ScalelabError):
    """The node answered with an error; the message is its own."""

    code = "refused"


def ask(host: str, port: int, query: str, *, level: int, timeout_s: float) -> list[Row]:
    """One connection, one query, its rows. Raises OSError, Refused or CorruptData."""
    with socket.create_connection((host, port), timeout=timeout_s) as connection:
        version = {"CQL_VERSION": "3.0.0"}
        options = struct.pack(">H", len(version))
        options += b"".join(_string(name) + _string(value) for name, value in version.items())
        opcode, body = _exchange(connection, _STARTUP, options)
        if opcode != _READY:
            raise _unexpected(opcode, body)
        text = query.encode()
        question = struct.pack(">i", len(text)) + text + struct.pack(">HB", level, _SKIP_METADATA)
        opcode, body = _exchange(connection, _QUERY, question)
        if opcode != _RESULT:
            raise _unexpected(opcode, body)
        return parse_rows(body)


def parse_rows(body: bytes) -> list[Row]:
    """Body of a RESULT → its rows, each cell as bytes or None. CorruptData if torn."""
    try:
        kind, flags, columns = struct.unpack_from(">iii", body, 0)
        if kind != _ROWS:
            return []
        if not flags & _NO_METADATA:
            raise CorruptData("an answer describes its columns although it was asked not to")
        at = 12
        if flags & _MORE_PAGES:
            (size,) = struct.unpack_from(">i", body, at)
            at += 4 + size
        (count,) = struct.unpack_from(">i", body, at)
        at += 4
        rows: list[Row] = []
        for _ in range(count):
            cells: list[bytes | None] = []
            for _ in range(columns):
                (size,) = struct.unpack_from(">i", body, at)
                at += 4
                if at + max(size, 0) > len(body):
                    raise CorruptData("an answer ends within a cell")
                cells.append(None if size < 0 else body[at : at + size])
                at += max(size, 0)
            rows.append(tuple(cells))
    except struct.error as cause:
        raise CorruptData("an answer is torn") from cause
    return rows


def parse_error(body: bytes) -> Refused:
    """Body of an ERROR → what the node says. CorruptData if torn."""
    try:
        code, size = struct.unpack_from(">iH", body, 0)
    except struct.error as cause:
        raise CorruptData("an error is torn") from cause
    return Refused(f"{body[6 : 6 + size].decode(errors='replace')} (0x{code:04x})")


def _unexpected(opcode: int, body: bytes) -> ScalelabError:
    if opcode == _ERROR:
        return parse_error(body)
    return CorruptData(f"opcode {opcode} is no answer to what was asked")


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack(">H", len(raw)) + raw


def _exchange(connection: socket.socket, opcode: int, body: bytes) -> tuple[int, bytes]:
    connection.sendall(struct.pack(">BBhBi", _REQUEST, 0, 0, opcode, len(body)) + body)
    version, _flags, _stream, answered, size = struct.unpack(">BBhBi", _exactly(connection, 9))
    if version != _RESPONSE or not 0 <= size <= _LARGEST_ANSWER:
        raise CorruptData(f"version {version:#x}, {size} bytes: not an answer of Cassandra's")
    return answered, _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise ConnectionError("the node closed the connection")
        parts += part
    return bytes(parts)
