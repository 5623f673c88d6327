"""The arithmetic of asking many, and what a result may be used for."""

from __future__ import annotations

import itertools

import pytest

from month3_messaging.fan import Availability, Gathered, Missing, Why, chance_all
from scalelab.errors import InvalidInput, Unavailable

LATE = Missing(Why.LATE, "part_late")


@pytest.mark.parametrize(("parts", "places"), [(0, 1), (1, 1), (4, 1), (2, 2), (3, 2), (2, 3)])
def test_the_chance_is_the_count_of_all_cases(parts: int, places: int) -> None:
    """Every place quick in 3 of 4 cases: all cases are listed and counted."""
    cases = list(itertools.product((True, True, True, False), repeat=parts * places))
    good = sum(
        all(any(case[part * places : (part + 1) * places]) for part in range(parts))
        for case in cases
    )
    assert chance_all(0.75, parts, places=places) == pytest.approx(good / len(cases))


@pytest.mark.parametrize(("chance", "parts", "places"), [(1.1, 1, 1), (-0.1, 1, 1), (1, -1, 1)])
def test_what_is_no_chance_is_refused(chance: float, parts: int, places: int) -> None:
    """Instead of a number without a meaning."""
    with pytest.raises(InvalidInput):
        chance_all(chance, parts, places=places)


def test_too_few_parts_are_an_error_that_names_the_missing() -> None:
    """Who needs a quorum says so; an error of its own code comes back."""
    gathered = Gathered({"north": 1}, {"south": LATE, "east": LATE})
    with pytest.raises(Unavailable, match=r"1 of 3 .* missing: east, south") as refused:
        gathered.need(2)
    assert refused.value.stable_code == "too_few_parts"
    assert gathered.need(1) is gathered


def test_a_partial_sum_promises_pieces_and_never_denies_them() -> None:
    """Enough is yes; not enough is no only if nobody is missing."""
    some = Availability(Gathered({"north": {"pen": 3}, "west": {"pen": 2}}, {"south": LATE}))
    every = Availability(Gathered({"north": {"pen": 3}, "west": {"pen": 2}}, {}))
    assert [some.has("pen", 5), some.has("pen", 6), some.has("ink", 1)] == [True, None, None]
    assert [every.has("pen", 5), every.has("pen", 6), every.has("ink", 1)] == [True, False, False]
