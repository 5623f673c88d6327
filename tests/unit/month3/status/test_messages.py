"""Commands of a client: read whole or refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month3_messaging.status.messages import Follow, Unfollow, read_command
from scalelab.errors import InvalidInput

ORDER = "018f0000-0000-7000-8000-000000000001"


def test_a_client_follows_from_a_version_and_unfollows() -> None:
    """`after` may be left out."""
    follow = read_command(f'{{"type":"follow","order_id":"{ORDER}","after":2}}'.encode())
    assert isinstance(follow, Follow)
    assert (str(follow.order_id), follow.after) == (ORDER, 2)
    plain = read_command(f'{{"type":"follow","order_id":"{ORDER}"}}'.encode())
    assert isinstance(plain, Follow)
    assert plain.after == 0
    assert isinstance(
        read_command(f'{{"type":"unfollow","order_id":"{ORDER}"}}'.encode()), Unfollow
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "nonsense",
        '{"type":"follow","order_id":"1"}',
        '{"type":"follow","order_id":1}',
        f'{{"type":"buy","order_id":"{ORDER}"}}',
        f'{{"type":"follow","order_id":"{ORDER}","after":-1}}',
        f'{{"type":"follow","order_id":"{ORDER}","after":true}}',
        f'{{"type":"follow","order_id":"{ORDER}","after":1e3}}',
        f'{{"type":"follow","order_id":"{ORDER}","after":1000000000}}',
        "[" * 1000,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """And changes nothing: a command is read before anything is done."""
    with pytest.raises(InvalidInput):
        read_command(text.encode())


@given(st.text(max_size=200))
def test_no_text_breaks_the_reading(text: str) -> None:
    """A command, or InvalidInput."""
    with contextlib.suppress(InvalidInput):
        read_command(text.encode())
