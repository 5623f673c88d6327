"""Numbered datagrams: what their numbers tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.sockets import Tally, encode, encode_end, parse
from month1_caching_gateway.sockets.datagrams import LARGEST, MOST, SMALLEST
from scalelab.errors import CorruptData, InvalidInput


@given(st.integers(0, 2**32 - 1), st.integers(0, MOST - 1), st.integers(SMALLEST, 1500))
def test_a_datagram_is_read_as_it_was_written(run: int, number: int, size: int) -> None:
    """Of exactly the size that was asked for."""
    data = encode(run, number, size)
    assert len(data) == size
    arrived = parse(data)
    assert (arrived.run, arrived.number) == (run, number)


def test_the_end_says_how_many_were_sent() -> None:
    """And is no datagram of the run."""
    end = parse(encode_end(7, 1234))
    assert (end.run, end.number, end.sent) == (7, None, 1234)


@pytest.mark.parametrize(
    "data",
    [b"", b"x" * (SMALLEST - 1), b"\0\0\0\1" + b"\xff" * 7 + b"\0" * 9, encode_end(1, MOST + 1)],
    ids=["empty", "short", "number", "end"],
)
def test_what_is_no_datagram_of_ours_is_refused(data: bytes) -> None:
    """Anybody can send to an open port."""
    with pytest.raises(CorruptData) as refused:
        parse(data)
    assert refused.value.stable_code == "datagram_malformed"


@pytest.mark.parametrize(("number", "size"), [(0, SMALLEST - 1), (0, LARGEST + 1), (MOST, 100)])
def test_what_cannot_be_sent_is_refused(number: int, size: int) -> None:
    """Before anything is."""
    with pytest.raises(InvalidInput):
        encode(1, number, size)


@given(st.lists(st.integers(0, 60), max_size=120))
def test_every_arrival_is_counted_once(arrivals: list[int]) -> None:
    """sent = received + lost; arrivals = received + duplicated; overtaking is told."""
    tally = Tally(1)
    for number in arrivals:
        tally.note(number)
    account = tally.count(61)
    first_times = list(dict.fromkeys(arrivals))
    assert account.received == len(first_times)
    assert account.lost == 61 - len(first_times)
    assert account.duplicated == len(arrivals) - len(first_times)
    late = [n for i, n in enumerate(first_times) if any(m > n for m in first_times[:i])]
    assert account.reordered == len(late)


def test_more_than_were_sent_is_no_account() -> None:
    """A mixed-up run is reported, not averaged away."""
    tally = Tally(1)
    tally.note(5)
    with pytest.raises(CorruptData):
        tally.count(3)
