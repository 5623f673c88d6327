"""The shoppers' plan: a pure function of its seed."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from month6_capstone.load import DECLINED_CARD, SLOW_CARD, Mix, Visit, plan


def _plan(seed: int, *, seconds: int = 30) -> list[Visit]:
    mix = Mix(declined=0.1, slow_card=0.05, sent_twice=0.05)
    return plan(seed=seed, users=20, products=100, orders_per_s=50, seconds=seconds, mix=mix)


@given(st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_plan(seed: int) -> None:
    """A red run can be repeated: nothing but the arguments decides."""
    assert _plan(seed, seconds=3) == _plan(seed, seconds=3)


def test_another_seed_gives_another_plan() -> None:
    """The seed is not ignored."""
    assert _plan(1) != _plan(2)


@given(st.integers(0, 2**32))
def test_arrivals_are_ordered_and_inside_the_run(seed: int) -> None:
    """Arrival times never decrease and stay below the run's length; keys never repeat."""
    visits = _plan(seed, seconds=3)
    times = [visit.at_s for visit in visits]
    assert times == sorted(times)
    assert all(0 < at_s < 3 for at_s in times)
    assert len({visit.key for visit in visits}) == len(visits)


def test_arrivals_come_at_the_rate_asked_for() -> None:
    """30 s at 50/s is 1500 arrivals, give or take five standard deviations of a Poisson count."""
    assert abs(len(_plan(7)) - 1500) < 5 * 1500**0.5


def test_shares_of_cards_and_copies_are_the_mix() -> None:
    """Of 1500 visits about 150 are declined, 75 have the slow card and 75 are sent twice."""
    visits = _plan(7)
    cards = Counter(visit.card_token for visit in visits)
    assert 100 < cards[DECLINED_CARD] < 200
    assert 40 < cards[SLOW_CARD] < 120
    assert 40 < sum(visit.sent_twice for visit in visits) < 120


def test_popular_products_are_popular() -> None:
    """With a Zipf exponent of 1 the first product is looked at far more than the fiftieth."""
    pages = Counter(page for visit in _plan(7) for page in visit.pages)
    assert pages["p-0001"] > 5 * pages["p-0050"]


def test_every_order_has_lines_of_distinct_products() -> None:
    """The shop refuses repeated products in one order, so the plan never makes them."""
    for visit in _plan(3):
        products = [product for product, _ in visit.lines]
        assert products
        assert len(set(products)) == len(products)
