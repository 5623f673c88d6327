"""Which version answers: by header, by user, by chance; shares proven by counts."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.gateway.canary import Canary, Why, choose, place_of
from scalelab.errors import InvalidInput
from tests.fixtures.tiers import Count

PERCENT = st.floats(0, 100, allow_nan=False)
USER = st.text(min_size=1, max_size=20)


@given(PERCENT, st.floats(0, 1, exclude_max=True))
def test_a_header_decides_whatever_the_weight(percent: float, chance: float) -> None:
    """C1; another value is as if it were absent."""
    canary = Canary("new", percent, header="x-canary")
    for said, taken in ((b"always", True), (b" NEVER ", False)):
        found = choose(canary, forced=said, user="u", chance=chance)
        assert (found.canary, found.why) == (taken, Why.HEADER)
    assert choose(canary, forced=b"yes", user="u", chance=chance) == choose(
        canary, forced=None, user="u", chance=chance
    )


@given(USER, PERCENT, PERCENT)
def test_raising_the_percentage_only_adds_users(user: str, one: float, other: float) -> None:
    """C2: nobody is thrown back to the old version, and the chance plays no part."""
    low, high = sorted((one, other))

    def taken(percent: float, chance: float) -> bool:
        canary = Canary("new", percent, sticky="user")
        return choose(canary, forced=None, user=user, chance=chance).canary

    assert taken(low, 0.0) == taken(low, 0.999)
    assert taken(high, 0.5) or not taken(low, 0.5)


@given(USER, st.floats(0, 1, exclude_max=True))
def test_nothing_is_nobody_and_a_hundred_is_everybody(user: str, chance: float) -> None:
    """C3, by user and by chance."""
    for sticky in ("user", "none"):
        for percent, taken in ((0.0, False), (100.0, True)):
            canary = Canary("new", percent, sticky=sticky)
            assert choose(canary, forced=None, user=user, chance=chance).canary is taken


@pytest.mark.parametrize("percent", [1.0, 10.0, 50.0])
@pytest.mark.parametrize("sticky", ["user", "none"])
def test_the_share_is_the_percentage(percent: float, sticky: str, count: Count) -> None:
    """Within 4.5 standard deviations, with users and chances that are always the same."""
    requests, random = count(1_000_000), Random(7)
    canary = Canary("new", percent, sticky="user" if sticky == "user" else "none")
    taken = sum(
        choose(canary, forced=None, user=f"user-{n}", chance=random.random()).canary
        for n in range(requests)
    )
    share = percent / 100
    spread = 4.5 * (requests * share * (1 - share)) ** 0.5
    assert abs(taken - requests * share) <= spread


def test_the_first_users_of_one_canary_are_not_those_of_the_next() -> None:
    """Of a thousand users about a hundredth is in both tenths, not a tenth."""
    both = sum(place_of(f"u{n}", "a") < 10 and place_of(f"u{n}", "b") < 10 for n in range(1000))
    assert both < 40


def test_strangers_are_drawn_where_users_stick() -> None:
    """Nobody to stick to."""
    canary = Canary("new", 50.0, sticky="user")
    assert choose(canary, forced=None, user="", chance=0.2).why is Why.WEIGHT


@pytest.mark.parametrize("percent", [-0.1, 100.1, float("nan")])
def test_a_percentage_outside_0_to_100_is_refused(percent: float) -> None:
    """It would be somebody's typing error."""
    with pytest.raises(InvalidInput):
        Canary("new", percent)
