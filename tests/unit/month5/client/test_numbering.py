"""Claims about numbers of commands: N1 and N2 of month5_kvstore/client/numbering.py."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from month5_kvstore.client import Numbering


@given(steps=st.lists(st.integers(-1, 5), max_size=40))
def test_only_what_was_finished_is_acknowledged(steps: list[int]) -> None:
    """N1, N2. -1 begins a command; any other number finishes one of those that are open."""
    numbering = Numbering()
    given_: list[int] = []
    open_: list[int] = []
    for step in steps:
        if step < 0 or not open_:
            given_.append(numbering.begin())
            open_.append(given_[-1])
        else:
            numbering.finish(open_.pop(step % len(open_)))
        assert numbering.acknowledged_below == min(open_, default=len(given_) + 1)
    assert given_ == list(range(1, len(given_) + 1))
