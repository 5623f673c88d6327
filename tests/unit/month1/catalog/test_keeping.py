"""Claims about entity tags in preconditions and about what a write does (pure)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from month1_caching_gateway.catalog.entity_tags import Precondition, matches, matches_strongly
from month1_caching_gateway.catalog.keeping import needs_write, patched
from month1_caching_gateway.catalog.product import Draft, Product, draft_of, etag
from scalelab.errors import Conflict, InvalidInput

MUG = Product("mug", "Mug", "Holds tea.", "kitchen", 1290, "EUR", 3)
SAME, OTHER = draft_of(MUG), replace(draft_of(MUG), unit_minor=1390)
CURRENT, STALE = etag(MUG), etag(replace(MUG, version=2))


@pytest.mark.parametrize(
    ("header", "strongly"),
    [
        ('"1-3"', True),
        ('"x", "1-3"', True),
        ("*", True),
        ('W/"1-3"', False),
        ('"1-2"', False),
        ("1-3", False),
        ("", False),
    ],
)
def test_if_match_compares_strongly(header: str, strongly: bool) -> None:
    """RFC 9110 section 13.1.1: a weak tag is no ground to write on."""
    assert matches_strongly(header, '"1-3"') is strongly
    assert matches(header, '"1-3"') is (strongly or header.startswith("W/"))


def test_tags_of_two_forms_never_match() -> None:
    """What was read as version 2 is no ground to write version 1."""
    assert not Precondition(if_match=etag(MUG, 2)).holds(etag(MUG, 1))


@pytest.mark.parametrize(
    ("precondition", "standing", "expected"),
    [
        (Precondition(), None, True),
        (Precondition(), MUG, True),
        (Precondition(if_match=CURRENT), MUG, True),
        (Precondition(if_match=STALE), MUG, False),
        (Precondition(if_match=CURRENT), None, False),
        (Precondition(if_match="*"), MUG, True),
        (Precondition(if_match="*"), None, False),
        (Precondition(if_none_match="*"), None, True),
        (Precondition(if_none_match="*"), MUG, False),
        (Precondition(if_match="nonsense"), MUG, False),
    ],
)
def test_a_write_goes_on_only_where_its_precondition_holds(
    precondition: Precondition, standing: Product | None, expected: bool
) -> None:
    """Both headers, with and without a product."""
    if expected:
        assert needs_write(standing, OTHER, precondition, 1)
    else:
        with pytest.raises(Conflict) as caught:
            needs_write(standing, OTHER, precondition, 1)
        assert caught.value.stable_code == "precondition_failed"


@pytest.mark.parametrize("if_match", [None, CURRENT, STALE])
def test_what_is_there_already_is_kept_whatever_tag_the_caller_had(if_match: str | None) -> None:
    """A repeated write whose first answer was lost is not told that it lost a race."""
    assert not needs_write(MUG, SAME, Precondition(if_match=if_match), 1)


def test_who_demands_a_new_product_is_refused_by_an_equal_one() -> None:
    """If-None-Match: * asks whether something is there, not what."""
    with pytest.raises(Conflict):
        needs_write(MUG, SAME, Precondition(if_none_match="*"), 1)


def test_a_stale_patch_is_refused_unless_it_is_applied_already() -> None:
    """The same rule for patches; an absence of change is no write."""
    stale, current = Precondition(if_match=STALE), Precondition(if_match=CURRENT)
    assert patched(MUG, lambda _: OTHER, current, 1) == OTHER
    assert patched(MUG, lambda _: SAME, current, 1) is None
    assert patched(MUG, lambda _: SAME, stale, 1) is None
    with pytest.raises(Conflict):
        patched(MUG, lambda _: OTHER, stale, 1)


def test_a_stale_patch_that_does_not_fit_is_stale_first() -> None:
    """What it would make of the present product is not the caller's mistake."""
    with pytest.raises(Conflict):
        patched(MUG, _no_product, Precondition(if_match=STALE), 1)
    with pytest.raises(InvalidInput):
        patched(MUG, _no_product, Precondition(if_match=CURRENT), 1)


def _no_product(_product: Product) -> Draft:
    raise InvalidInput("no name", field="name")
