"""Names of segments, and the gaps between them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.backup.wal_segments import (
    between,
    gaps,
    is_segment,
    lsn_of,
    lsn_text,
    number_of,
    segment_at,
    segment_name,
)
from scalelab.errors import InvalidInput


@given(st.integers(1, 2**32 - 1), st.integers(0, 2**40 - 1))
def test_a_name_gives_back_its_number(timeline: int, number: int) -> None:
    assert number_of(segment_name(timeline, number)) == number


@given(st.integers(0, 2**64 - 1))
def test_a_position_reads_back_as_it_was_written(lsn: int) -> None:
    assert lsn_of(lsn_text(lsn)) == lsn


def test_the_last_segment_of_a_file_is_followed_by_the_next_file() -> None:
    """256 segments of 16 MiB have one high part."""
    assert between("0000000100000000000000FF", "000000010000000100000000") == [
        "0000000100000000000000FF",
        "000000010000000100000000",
    ]


def test_a_position_lies_in_its_segment() -> None:
    assert segment_at(1, lsn_of("0/2000028")) == "000000010000000000000002"


@given(st.sets(st.integers(2, 30), min_size=1), st.integers(2, 10), st.integers(2, 30))
def test_what_is_not_there_is_a_gap(present: set[int], first: int, least: int) -> None:
    """I2 against a plain count."""
    names = [segment_name(1, number) for number in present]
    found = gaps(names, segment_name(1, first), at_least=segment_name(1, least))
    newest = max([*present, least])
    expected = [segment_name(1, n) for n in range(first, newest + 1) if n not in present]
    assert found == expected


@pytest.mark.parametrize("name", ["", "0000000100000000000000FF.partial", "00000002.history"])
def test_other_files_of_an_archive_are_no_segments(name: str) -> None:
    assert not is_segment(name)


@pytest.mark.parametrize("text", ["", "12", "0/", "0/G", "0/123456789"])
def test_text_that_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        lsn_of(text)
