"""Consistency tokens: genuine ones come back, everything else means "read the primary"."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.replication import ConsistencyToken, ReplayPosition, covers, sign, verify
from scalelab.errors import InvalidInput

KEY = b"k" * 32
TOKENS = st.builds(
    ConsistencyToken,
    st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
)


@given(TOKENS)
def test_a_signed_token_comes_back_as_it_was(token: ConsistencyToken) -> None:
    """I1 for any server, timeline and position."""
    assert verify(sign(token, KEY), [KEY]) == token


@given(TOKENS, st.integers(0, 200), st.characters(min_codepoint=32, max_codepoint=126))
def test_a_token_with_one_character_changed_is_none(
    token: ConsistencyToken, place: int, character: str
) -> None:
    """I2: every single-character change is either no change, or refused without an error."""
    text = sign(token, KEY)
    place %= len(text)
    forged = text[:place] + character + text[place + 1 :]
    assert verify(forged, [KEY]) == (token if forged == text else None)


@given(st.one_of(st.none(), st.text(), st.from_regex(r"v1(\.[\w-]*){4}", fullmatch=True)))
def test_any_text_is_read_without_an_error(text: str | None) -> None:
    """I2: what we did not sign gives None, whatever it is."""
    assert verify(text, [KEY]) is None


def test_leading_zeros_are_another_text_and_not_a_token() -> None:
    """There is one spelling of a position."""
    text = sign(ConsistencyToken("shard-0", 1, 42), KEY)
    assert verify(text.replace(".42.", ".042."), [KEY]) is None


def test_a_rotated_key_still_verifies_and_a_foreign_one_does_not() -> None:
    """The old key is kept for reading while the new one signs."""
    text = sign(ConsistencyToken("shard-0", 1, 42), KEY)
    assert verify(text, [b"n" * 32, KEY]) is not None
    assert verify(text, [b"n" * 32]) is None
    assert verify(text, []) is None


@pytest.mark.parametrize(
    ("position", "server", "expected"),
    [
        (ReplayPosition(1, 100), "shard-0", True),
        (ReplayPosition(1, 101), "shard-0", True),
        (ReplayPosition(1, 99), "shard-0", False),
        (ReplayPosition(2, 500), "shard-0", False),
        (ReplayPosition(1, 500), "shard-1", False),
    ],
)
def test_only_the_same_log_as_far_or_farther_covers_a_token(
    position: ReplayPosition, server: str, expected: bool
) -> None:
    """I3: positions of two servers or two timelines do not compare."""
    assert covers(position, server, ConsistencyToken("shard-0", 1, 100)) is expected


@pytest.mark.parametrize(("server", "key"), [("Shard.0", KEY), ("", KEY), ("shard-0", b"short")])
def test_what_could_not_be_verified_is_not_signed(server: str, key: bytes) -> None:
    """A name with a dot would shift the fields; a short key could be guessed."""
    with pytest.raises(InvalidInput):
        sign(ConsistencyToken(server, 1, 1), key)
