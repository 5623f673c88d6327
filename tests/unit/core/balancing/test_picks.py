"""Picks: fairness, preference for the less loaded, never an absent server."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from scalelab.balancing import Backend, least_connections, round_robin, two_choices

BACKENDS = st.lists(st.builds(Backend, st.just("b"), st.integers(0, 50), st.booleans()), max_size=8)


@given(BACKENDS, st.integers(0, 1000))
def test_no_pick_ever_names_an_unavailable_server(backends: list[Backend], seed: int) -> None:
    """All three pick an available server, or None exactly when there is none."""
    able = {index for index, backend in enumerate(backends) if backend.available}
    chance = random.Random(seed)
    for picked in (
        round_robin(backends, seed),
        least_connections(backends, seed),
        two_choices(backends, chance.randrange),
    ):
        assert picked in able if able else picked is None


def test_round_robin_gives_each_its_turn() -> None:
    """Over any multiple of the count, all got the same."""
    backends = [Backend("a"), Backend("b"), Backend("c")]
    assert Counter(round_robin(backends, turn) for turn in range(30)) == {0: 10, 1: 10, 2: 10}


@given(BACKENDS, st.integers(0, 100))
def test_least_connections_picks_a_minimum(backends: list[Backend], turn: int) -> None:
    """Nobody available has fewer requests in flight."""
    picked = least_connections(backends, turn)
    if picked is not None:
        loads = [backend.in_flight for backend in backends if backend.available]
        assert backends[picked].in_flight == min(loads)


def test_equal_loads_do_not_all_go_to_the_first() -> None:
    """Ties go round by turn."""
    backends = [Backend("a"), Backend("b")]
    assert [least_connections(backends, turn) for turn in range(4)] == [0, 1, 0, 1]


def balls_in_bins(choices: int, seed: int) -> int:
    """The fullest of 200 servers after 2000 long requests."""
    chance = random.Random(seed)
    loads = [0] * 200
    for _ in range(2000):
        if choices == 2:
            picked = two_choices([Backend("", load) for load in loads], chance.randrange)
            assert picked is not None
        else:
            picked = chance.randrange(len(loads))
        loads[picked] += 1
    return max(loads)


def test_two_choices_are_far_more_even_than_one() -> None:
    """The power of two choices: the excess over the mean of 10 shrinks to a fraction."""
    assert balls_in_bins(2, seed=7) - 10 <= (balls_in_bins(1, seed=7) - 10) / 2


def test_two_choices_draw_two_different_servers() -> None:
    """The busier of two servers is never picked, whatever is drawn."""
    backends = [Backend("busy", 9), Backend("idle", 0)]
    chance = random.Random(1)
    assert {two_choices(backends, chance.randrange) for _ in range(50)} == {1}
