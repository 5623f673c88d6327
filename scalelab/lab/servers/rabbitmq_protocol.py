"""The first exchange of AMQP 0-9-1, for readiness: sign in, open the virtual host, leave.

    we                          the broker
    "AMQP" 0 0 9 1
                                connection.start
    connection.start-ok PLAIN
                                connection.tune      (or it hangs up: wrong user or password)
    connection.tune-ok, open
                                connection.open-ok   (or connection.close: no such host)
    connection.close

Absent on purpose: everything else; clients speak through aio-pika.
Source: AMQP 0-9-1 specification, sections 2.2.4, 2.3.5 and 4.2.
"""

from __future__ import annotations

import socket
import struct

from scalelab.errors import CorruptData

_METHOD_FRAME = 1
_FRAME_END = 0xCE
_HEADER = struct.Struct(">BHI")
_CONNECTION = 10
_START, _START_OK, _TUNE, _TUNE_OK, _OPEN, _OPEN_OK, _CLOSE = 10, 11, 30, 31, 40, 41, 50
_FRAME_BYTES_MAX = 1 << 20


def sign_in(port: int, user: str, password: str, *, host: str = "/", timeout_s: float) -> None:
    """Return once the broker on 127.0.0.1 has let `user` into the virtual host.

    Raises OSError if nobody answers or it hangs up; CorruptData if it says something else.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        _expect(connection, _START)
        response = f"\x00{user}\x00{password}".encode()
        connection.sendall(
            _frame(
                _START_OK,
                struct.pack(">I", 0) + _short("PLAIN") + _long(response) + _short("en_US"),
            )
        )
        tune = _expect(connection, _TUNE)
        connection.sendall(_frame(_TUNE_OK, tune[:6] + b"\x00\x00"))  # no heartbeats
        connection.sendall(_frame(_OPEN, _short(host) + _short("") + b"\x00"))
        _expect(connection, _OPEN_OK)
        connection.sendall(_frame(_CLOSE, struct.pack(">H", 200) + _short("") + bytes(4)))


def _frame(method: int, arguments: bytes) -> bytes:
    payload = struct.pack(">HH", _CONNECTION, method) + arguments
    return _HEADER.pack(_METHOD_FRAME, 0, len(payload)) + payload + bytes([_FRAME_END])


def _expect(connection: socket.socket, method: int) -> bytes:
    """The arguments of the next frame, which must be `method` of class connection."""
    kind, _, size = _HEADER.unpack(_exactly(connection, _HEADER.size))
    if kind != _METHOD_FRAME or not 4 <= size <= _FRAME_BYTES_MAX:
        raise CorruptData(f"not an AMQP method frame: type {kind}, {size} bytes")
    payload = _exactly(connection, size + 1)
    found = struct.unpack_from(">HH", payload)
    if payload[-1] != _FRAME_END or found != (_CONNECTION, method):
        raise CorruptData(f"the broker said {found}, expected ({_CONNECTION}, {method})")
    return payload[4:-1]


def _exactly(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        piece = connection.recv(size - len(received))
        if not piece:
            raise ConnectionError("the broker hung up")
        received += piece
    return received


def _short(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data


def _long(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
