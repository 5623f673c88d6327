"""AMQP's first exchange, with a listener of our own that says what a test wants."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from scalelab.errors import CorruptData
from scalelab.lab.servers.rabbitmq_protocol import sign_in


def method(number: int, arguments: bytes = b"") -> bytes:
    """A method frame of class connection on channel 0."""
    payload = struct.pack(">HH", 10, number) + arguments
    return struct.pack(">BHI", 1, 0, len(payload)) + payload + b"\xce"


TUNE = method(30, struct.pack(">HIH", 2047, 131072, 60))


@contextmanager
def saying(*answers: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A listener that gives an answer after each thing it hears, then hangs up."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            # Who is told nonsense leaves without reading the rest, and the kernel says so: a reset
            # is a ConnectionError, but to shut down what has been reset is a plain OSError.
            with door.accept()[0] as peer, suppress(OSError):
                for answer in answers:
                    heard.append(peer.recv(4096))
                    peer.sendall(answer)
                peer.shutdown(socket.SHUT_WR)
                while piece := peer.recv(4096):
                    heard.append(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        yield door.getsockname()[1], heard
        thread.join(30)


def test_it_signs_in_and_takes_leave() -> None:
    """Header, PLAIN with user and password, the broker's own limits, the host, and a close."""
    with saying(method(10), TUNE, method(41)) as (port, heard):
        sign_in(port, "ann", "pass", host="/shop", timeout_s=30)
    said = b"".join(heard)
    assert said.startswith(b"AMQP\x00\x00\x09\x01")
    assert b"\x05PLAIN\x00\x00\x00\x09\x00ann\x00pass" in said
    assert method(31, struct.pack(">HI", 2047, 131072) + b"\x00\x00") in said
    assert method(40, b"\x05/shop\x00\x00") in said
    assert said.endswith(method(50, struct.pack(">H", 200) + b"\x00" + bytes(4)))


def test_a_refused_password_is_a_connection_error() -> None:
    """The broker hangs up after start-ok, as the protocol has it."""
    with (
        saying(method(10)) as (port, _),
        pytest.raises(OSError, match=r"hung up|reset"),
    ):
        sign_in(port, "ann", "wrong", timeout_s=30)


@pytest.mark.parametrize(
    "answer",
    [
        method(50),
        b"AMQP\x00\x01\x00\x00" + b"x" * 20,
        method(10)[:-1] + b"\x00",
        struct.pack(">BHI", 1, 0, 1 << 30),
        struct.pack(">BHI", 1, 0, 2) + b"\x00\x0a\xce",
    ],
    ids=["another method", "no frame", "no frame end", "an absurd length", "too short"],
)
def test_anything_else_is_corrupt_data(answer: bytes) -> None:
    """Something listens there, and it is no broker that lets us in."""
    with saying(answer) as (port, _), pytest.raises(CorruptData):
        sign_in(port, "ann", "pass", timeout_s=30)
