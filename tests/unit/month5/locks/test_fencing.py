"""F1 and F2 of month5_kvstore/locks/fencing.py."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month5_kvstore.locks import Fence, StaleToken


@given(tokens=st.lists(st.integers(1, 20), max_size=30))
def test_the_highest_token_never_goes_down_and_bounds_what_is_accepted(tokens: list[int]) -> None:
    """F1, F2, for any order of arrival."""
    fence, accepted = Fence(), list[int]()
    for token in tokens:
        with suppress(StaleToken):
            fence = fence.admit(token)
            accepted.append(token)
    assert accepted == sorted(accepted)
    assert fence.highest == max(tokens, default=0)


def test_the_same_holder_may_come_again_and_an_older_one_may_not() -> None:
    fence = Fence().admit(5).admit(5)
    with pytest.raises(StaleToken):
        fence.admit(4)
