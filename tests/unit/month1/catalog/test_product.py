"""Claims about entity tags, cursors and the seeded catalogue (pure)."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from month1_caching_gateway.catalog.entity_tags import matches
from month1_caching_gateway.catalog.product import (
    PRODUCT_ID,
    Product,
    decode_cursor,
    decode_product,
    encode_cursor,
    encode_product,
    etag,
)
from month1_caching_gateway.catalog.seed import draw
from scalelab.errors import CorruptData, InvalidInput

MUG = Product("p-0001", "Mug", "A mug — ☕.", "kitchen", 1290, "EUR", 3)
product_ids = st.from_regex(PRODUCT_ID.replace("$", r"\Z"))


def test_each_version_has_its_own_entity_tag() -> None:
    """P1: what a client holds is recognised as old after any change."""
    assert etag(MUG) != etag(replace(MUG, version=4))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('"1-3"', True),
        ('W/"1-3"', True),
        ('"1-2", "1-3"', True),
        ("*", True),
        ('"1-2"', False),
        ("1-3", False),
        ("", False),
        ('"1-3', False),
        ('"x, "1-3" y"', False),
    ],
)
def test_if_none_match_compares_weakly_and_reads_lists(header: str, expected: bool) -> None:
    """RFC 9110 section 13.1.2; a header that is no list of tags matches nothing."""
    assert matches(header, '"1-3"') is expected


@given(product_id=product_ids)
def test_a_cursor_gives_back_its_position(product_id: str) -> None:
    """P2 for every id."""
    assert decode_cursor(encode_cursor(product_id)) == product_id


@given(product_id=product_ids, place=st.integers(0), letter=st.sampled_from("AZaz09-_"))
def test_a_cursor_with_one_letter_changed_is_refused(
    product_id: str, place: int, letter: str
) -> None:
    """P2: a damaged cursor is an error with its own code, not a strange page."""
    cursor = encode_cursor(product_id)
    place %= len(cursor)
    damaged = cursor[:place] + letter + cursor[place + 1 :]
    if damaged == cursor:
        return
    with pytest.raises(InvalidInput) as caught:
        decode_cursor(damaged)
    assert caught.value.stable_code == "invalid_cursor"


@given(cursor=st.text(max_size=40))
@example("")
@example("é")
@example("A" * 9)
def test_any_text_is_refused_as_a_cursor_with_one_code(cursor: str) -> None:
    """No input leads to another exception."""
    with pytest.raises(InvalidInput) as caught:
        decode_cursor(cursor)
    assert caught.value.stable_code == "invalid_cursor"


def test_a_product_survives_the_cache() -> None:
    """What is decoded is what was encoded."""
    assert decode_product(encode_product(MUG)) == MUG


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"product_id":"p"}', b"\xff"])
def test_a_cached_product_of_another_shape_is_corrupt_data(raw: bytes) -> None:
    """After a release that changed the shape, old entries are told from ours."""
    with pytest.raises(CorruptData):
        decode_product(raw)


@given(count=st.integers(0, 300), seed=st.integers())
def test_a_seed_always_draws_the_same_catalogue(count: int, seed: int) -> None:
    """The same seed is the same catalogue; a larger one begins with the smaller."""
    products = draw(count, seed)
    assert products == draw(count + 5, seed)[:count]
    for product_id, draft in products:
        assert re.fullmatch(PRODUCT_ID, product_id)
        assert draft.unit_minor > 0
        assert 1 <= len(draft.name) <= 200
