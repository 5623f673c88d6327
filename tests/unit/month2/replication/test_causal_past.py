"""Pasts merge as positions do: any order, any number of times, never lower."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.replication.causal_past import (
    NOTHING,
    TOKENS_MAX,
    Past,
    after_message,
    after_read,
    after_write,
    header,
    later,
)
from month2_databases.replication.consistency_token import ConsistencyToken, sign
from scalelab.errors import InvalidInput

KEY = b"k" * 32
TOKENS = st.builds(ConsistencyToken, st.just("shop"), st.integers(1, 3), st.integers(0, 2**40))


def at(lsn: int, *, server: str = "shop", timeline: int = 1) -> ConsistencyToken:
    return ConsistencyToken(server, timeline, lsn)


@given(TOKENS, TOKENS, TOKENS)
def test_later_is_a_join(a: ConsistencyToken, b: ConsistencyToken, c: ConsistencyToken) -> None:
    """I1."""
    assert later(a, b) == later(b, a)
    assert later(a, later(b, c)) == later(later(a, b), c)
    assert later(a, a) == a
    assert later(a, None) == later(None, a) == a


@given(st.lists(TOKENS, min_size=1, max_size=6))
def test_merging_never_lowers_a_position(tokens: list[ConsistencyToken]) -> None:
    """I2: after any number of messages the past covers each of them."""
    past = NOTHING
    for token in tokens:
        past = after_message(past, sign(token, KEY), cluster="shop", keys=[KEY])
    assert past.seen is not None
    for token in tokens:
        assert (past.seen.timeline, past.seen.lsn) >= (token.timeline, token.lsn)


def test_positions_of_two_clusters_do_not_compare() -> None:
    """An error of the caller, not a silent choice."""
    with pytest.raises(InvalidInput, match="do not compare"):
        later(at(1), at(2, server="books"))


def test_a_message_carries_what_its_sender_wrote_and_saw() -> None:
    """The receiver's floor is the later of both."""
    sender = after_read(after_write(NOTHING, at(70)), at(90))
    receiver = after_message(NOTHING, header([sender], KEY), cluster="shop", keys=[KEY])
    assert receiver == Past(seen=at(90))


def test_ones_own_header_brings_back_ones_own_writes() -> None:
    """A client that only keeps the header still reads its writes."""
    text = header([after_write(NOTHING, at(70))], KEY)
    past = after_message(NOTHING, text, cluster="shop", keys=[KEY], is_own=True)
    assert past.written == at(70)


def test_a_header_names_several_clusters_and_each_takes_its_own() -> None:
    """One message, two clusters."""
    pasts = [after_write(NOTHING, at(7)), after_write(NOTHING, at(9, server="books"))]
    text = header(pasts, KEY)
    assert after_message(NOTHING, text, cluster="shop", keys=[KEY]).seen == at(7)
    assert after_message(NOTHING, text, cluster="books", keys=[KEY]).seen == at(9, server="books")


@pytest.mark.parametrize(
    "text",
    [
        "v1.shop.1.70.AAAAAAAAAAAAAAAAAAAAAA",
        sign(at(7), KEY) + " nonsense",
        sign(at(7), b"another secret key"),
        " ".join([sign(at(7), KEY)] * (TOKENS_MAX + 1)),
    ],
)
def test_a_header_that_cannot_be_trusted_refuses_the_past(text: str) -> None:
    """I3: and what was known before is kept beside it."""
    before = Past(written=at(5))
    past = after_message(before, text, cluster="shop", keys=[KEY])
    assert past.is_refused
    assert past.written == at(5)


def test_an_empty_header_carries_nothing() -> None:
    """A first request has none."""
    assert after_message(NOTHING, "", cluster="shop", keys=[KEY]) == NOTHING
    assert header([NOTHING], KEY) == ""


def test_two_pasts_of_one_cluster_make_no_header() -> None:
    """They would have to be merged first."""
    with pytest.raises(InvalidInput, match="one past"):
        header([Past(written=at(1)), Past(written=at(2))], KEY)
