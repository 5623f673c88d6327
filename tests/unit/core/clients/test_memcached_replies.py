"""Claims about reading Memcached's answers as they arrive (pure)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.clients.memcached_replies import Item, ReplyReader
from scalelab.errors import CorruptData

STREAM = (
    b"STORED\r\nVALUE a 0 8 41\r\nx\r\nEND\r\n\r\nVALUE b 0 0 42\r\n\r\nEND\r\nEND\r\n"
    b"SERVER_ERROR object too large for cache\r\n"
)
REPLIES = [
    b"STORED",
    {b"a": Item(b"x\r\nEND\r\n", 41), b"b": Item(b"", 42)},
    {},
    b"SERVER_ERROR object too large for cache",
]


def whole(cuts: list[int]) -> list[object]:
    """The stream fed in pieces."""
    reader = ReplyReader()
    replies: list[object] = []
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(edges):
        replies += reader.feed(STREAM[start:end])
    return replies


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_the_replies_do_not_depend_on_how_the_bytes_arrive(cuts: list[int]) -> None:
    """Data that looks like the protocol's own words is data."""
    assert whole(cuts) == REPLIES


@pytest.mark.parametrize(
    "garbage",
    [
        b"VALUE a 0 seven 41\r\n",
        b"VALUE a\r\n",
        b"VALUE a 0 1 1\r\nxyz\r\nEND\r\n",
        b"x" * 5000,
    ],
)
def test_bytes_that_are_no_reply_are_refused(garbage: bytes) -> None:
    """The connection is of no more use; nothing is guessed."""
    with pytest.raises(CorruptData):
        ReplyReader().feed(garbage)
