"""Kafka's wire format: what is sent, and that torn answers are refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.errors import CorruptData
from scalelab.lab.servers.kafka_protocol import (
    Range,
    parse_api_versions,
    parse_broker_count,
    request,
)

ANSWER = struct.pack(">hi", 0, 2) + struct.pack(">hhh", 3, 0, 13) + struct.pack(">hhh", 18, 0, 4)


def test_a_request_is_framed_as_the_protocol_says() -> None:
    """Length, key, version, correlation id, client id, body; big-endian."""
    frame = request(18, 0, 7, b"body")
    assert frame == b"\0\0\0\x16" + b"\0\x12\0\0" + b"\0\0\0\x07" + b"\0\x08scalelab" + b"body"


def test_accepted_versions_are_read() -> None:
    """Request key → both ends of its range."""
    assert parse_api_versions(ANSWER) == {3: Range(0, 13), 18: Range(0, 4)}


def test_an_error_in_the_answer_is_refused() -> None:
    """Error code 35 is "unsupported version"."""
    with pytest.raises(CorruptData, match="35"):
        parse_api_versions(struct.pack(">hi", 35, 0))


@given(st.integers(0, len(ANSWER) - 1))
def test_a_torn_answer_is_corrupt_data_at_every_length(size: int) -> None:
    """No prefix of an answer passes for a whole one, and none raises anything else."""
    with pytest.raises(CorruptData):
        parse_api_versions(ANSWER[:size])


def test_living_brokers_are_counted() -> None:
    """Throttle time first, then the length of the broker list."""
    assert parse_broker_count(struct.pack(">ii", 0, 3) + b"rest") == 3
    with pytest.raises(CorruptData):
        parse_broker_count(b"\0\0\0")
