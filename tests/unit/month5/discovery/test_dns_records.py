"""Claims about one question of DNS and its answer."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month5_kvstore.discovery.dns_records import Endpoint, endpoints, question
from scalelab.errors import CorruptData, InvalidInput, Unavailable

NAME = b"\x07greeter\x07service\x06consul\x00"
HERE = b"\xc0\x0c"
"""A pointer to the name of the question."""


def header(flags: int, answers: int, others: int = 0) -> bytes:
    return struct.pack("!6H", 7, flags, 1, answers, 0, others)


def record(name: bytes, kind: int, data: bytes) -> bytes:
    return name + struct.pack("!HHIH", kind, 1, 0, len(data)) + data


def service(port: int, target: bytes) -> bytes:
    return record(HERE, 33, struct.pack("!3H", 1, 1, port) + target)


def answer(*records: bytes, answers: int, flags: int = 0x8000) -> bytes:
    asked = NAME + struct.pack("!HH", 33, 1)
    return header(flags, answers, len(records) - answers) + asked + b"".join(records)


def test_a_question_names_the_name_and_asks_for_services() -> None:
    asked = question(7, "greeter.service.consul.")
    assert asked == header(0, 0)[:4] + b"\0\1" + bytes(6) + NAME + struct.pack("!HH", 33, 1)


def test_the_address_beside_a_service_says_where_its_target_is() -> None:
    one, two = b"\x03one" + HERE, b"\x03TWO" + HERE
    message = answer(
        service(9, two),
        service(8, one),
        record(one, 1, bytes([10, 0, 0, 1])),
        record(b"\x03two" + HERE, 1, bytes([10, 0, 0, 2])),
        answers=2,
    )
    assert endpoints(message, 7) == (Endpoint("10.0.0.1", 8), Endpoint("10.0.0.2", 9))


def test_a_name_that_is_not_there_has_nobody() -> None:
    assert endpoints(answer(answers=0, flags=0x8003), 7) == ()


def test_a_server_that_cannot_answer_does_not_say_nobody() -> None:
    for flags in (0x8002, 0x8200):
        with pytest.raises(Unavailable):
            endpoints(answer(answers=0, flags=flags), 7)


def test_an_answer_to_another_question_is_refused() -> None:
    with pytest.raises(CorruptData):
        endpoints(answer(answers=0), 8)


def test_a_name_that_leads_to_itself_ends() -> None:
    with pytest.raises(CorruptData):
        endpoints(header(0x8000, 0) + HERE + struct.pack("!HH", 33, 1), 7)


@given(tail=st.binary(max_size=80), cut=st.integers(0, 60))
def test_any_bytes_are_an_answer_or_refused(tail: bytes, cut: int) -> None:
    message = answer(service(9, b"\x03one" + HERE), answers=1)[:cut] + tail
    with contextlib.suppress(CorruptData, Unavailable):
        endpoints(message, 7)


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        question(1, name)
