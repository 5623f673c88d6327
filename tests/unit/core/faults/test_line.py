"""What comes out of a line, and when: values in, values out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.errors import InvalidInput
from scalelab.lab.faults import Line, LineState, Passage, pass_through

CHUNKS = st.lists(
    st.tuples(
        st.floats(0.0, 5.0),  # silence before the chunk
        st.integers(1, 100_000),
        st.floats(0.0, 1.0, exclude_max=True),
    ),
    min_size=1,
    max_size=30,
)
LINES = st.builds(
    Line,
    delay_s=st.floats(0.0, 2.0),
    jitter_s=st.floats(0.0, 2.0),
    bytes_per_s=st.none() | st.floats(1_000.0, 1e9),
)


def send(line: Line, chunks: list[tuple[float, int, float]]) -> list[tuple[float, Passage]]:
    """The instant each chunk went in, and its passage."""
    state, now_s, seen = LineState(), 0.0, []
    for silence_s, size, draw in chunks:
        now_s += silence_s
        state, passage = pass_through(line, state, size=size, now_s=now_s, draw=draw)
        seen.append((now_s, passage))
    return seen


@given(LINES, CHUNKS)
def test_nothing_arrives_early_or_out_of_order(
    line: Line, chunks: list[tuple[float, int, float]]
) -> None:
    """L1 and L2, for any line and any arrivals."""
    last_s = 0.0
    for in_s, passage in send(line, chunks):
        assert passage.out_s >= in_s + line.delay_s - 1e-9
        assert passage.out_s >= last_s
        last_s = passage.out_s


@given(st.floats(1_000.0, 1e6), CHUNKS)
def test_a_narrow_line_delivers_no_more_than_its_width(
    width: float, chunks: list[tuple[float, int, float]]
) -> None:
    """L3, between any two deliveries, when nothing is added at random."""
    passages = [one for _, one in send(Line(0.1, bytes_per_s=width), chunks)]
    for first in range(len(passages)):
        between = 0
        for one in passages[first + 1 :]:
            between += one.size
            assert between <= width * (one.out_s - passages[first].out_s) + 1e-3


@given(st.integers(0, 300_000), CHUNKS)
def test_a_line_that_resets_lets_exactly_so_many_bytes_through(
    limit: int, chunks: list[tuple[float, int, float]]
) -> None:
    """L4: the bytes before the reset are the limit, or all there was."""
    passages = [one for _, one in send(Line(reset_after_bytes=limit), chunks)]
    until = next((n for n, one in enumerate(passages) if one.resets), None)
    sent = sum(size for _, size, _ in chunks)
    assert (until is not None) == (sent >= limit)
    passed = sum(one.size for one in passages[: None if until is None else until + 1])
    assert passed == min(limit, sent)


def test_a_fast_line_adds_its_delay_and_nothing_else() -> None:
    """Two chunks at once travel side by side."""
    passages = [one for _, one in send(Line(0.25), [(1.0, 10, 0.5), (0.0, 90_000, 0.5)])]
    assert [one.out_s for one in passages] == [1.25, 1.25]


@pytest.mark.parametrize(
    "wrong",
    [{"delay_s": -0.1}, {"jitter_s": -1.0}, {"bytes_per_s": 0.0}, {"reset_after_bytes": -1}],
    ids=lambda one: next(iter(one)),
)
def test_an_impossible_line_is_refused(wrong: dict[str, float]) -> None:
    """Before anything is sent through it."""
    with pytest.raises(InvalidInput):
        Line(**wrong)  # pyright: ignore[reportArgumentType]
