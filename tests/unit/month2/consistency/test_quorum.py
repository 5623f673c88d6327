"""R + W > N, counted against every choice of replicas there is."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.consistency import (
    Level,
    is_served,
    needed,
    overlap,
    stale_chance,
    tolerated,
)
from scalelab.errors import InvalidInput

LEVELS = (Level.ONE, Level.QUORUM, Level.ALL)


@pytest.mark.parametrize("replicas", range(1, 8))
def test_levels_overlap_exactly_when_every_two_choices_share_a_replica(replicas: int) -> None:
    """The arithmetic agrees with trying all sets of replicas of those sizes."""
    for read, write in product(LEVELS, repeat=2):
        asked = combinations(range(replicas), needed(read, replicas))
        written = list(combinations(range(replicas), needed(write, replicas)))
        always = all(set(one) & set(other) for one in asked for other in written)
        assert overlap(read, write, replicas) == always


@pytest.mark.parametrize("replicas", range(1, 8))
def test_the_chance_of_an_old_read_is_the_share_of_choices_that_miss(replicas: int) -> None:
    """Counted by hand for every level and every number of replicas that have the value."""
    for level in LEVELS:
        for holding in range(replicas + 1):
            choices = list(combinations(range(replicas), needed(level, replicas)))
            missing = [one for one in choices if not set(one) & set(range(holding))]
            expected = len(missing) / len(choices)
            assert stale_chance(level, holding=holding, replicas=replicas) == pytest.approx(
                expected
            )


@given(replicas=st.integers(1, 99), level=st.sampled_from(LEVELS))
def test_a_request_is_served_until_one_more_replica_is_away_than_tolerated(
    replicas: int, level: Level
) -> None:
    """`tolerated` is the edge of `is_served`."""
    away = tolerated(level, replicas)
    assert is_served(level, replicas, alive=replicas - away)
    assert not is_served(level, replicas, alive=replicas - away - 1)


@given(replicas=st.integers(1, 99))
def test_two_quorums_always_overlap(replicas: int) -> None:
    """Whatever the number of replicas, even or odd."""
    assert overlap(Level.QUORUM, Level.QUORUM, replicas)


def test_a_level_above_the_number_of_replicas_is_refused() -> None:
    """TWO of one replica can never be answered: that is the asker's mistake, not an outage."""
    with pytest.raises(InvalidInput):
        needed(Level.TWO, 1)


@pytest.mark.parametrize("holding", [-1, 4])
def test_more_or_fewer_holders_than_replicas_are_refused(holding: int) -> None:
    """Three replicas cannot hold a value four times."""
    with pytest.raises(InvalidInput):
        stale_chance(Level.ONE, holding=holding, replicas=3)


def test_nothing_stands_on_no_replica() -> None:
    """Zero replicas is a mistake."""
    with pytest.raises(InvalidInput):
        needed(Level.ONE, 0)
