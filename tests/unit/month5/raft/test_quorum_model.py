"""Quorums against a dumb model that tries every set of nodes."""

from __future__ import annotations

from itertools import combinations, product
from random import Random

from month5_kvstore.raft import Configuration
from month5_kvstore.raft.quorum import Verdict, agreed_index, tally


def _agree(configuration: Configuration, some: set[int]) -> bool:
    sides = [side for side in (configuration.voters, configuration.outgoing) if side]
    return bool(configuration.voters) and all(
        2 * sum(1 for voter in side if voter in some) > len(side) for side in sides
    )


def _configurations() -> list[Configuration]:
    nodes = (1, 2, 3, 4)
    sides = [side for size in range(5) for side in combinations(nodes, size)]
    return [Configuration(voters, outgoing) for voters, outgoing in product(sides, sides) if voters]


def test_a_ballot_stands_as_trying_every_end_of_it_says() -> None:
    """Won: whoever is missing cannot change it. Lost: not even all of them could win it."""
    for configuration in _configurations():
        for votes in product((True, False, None), repeat=4):
            told = {
                n: vote for n, vote in zip((1, 2, 3, 4), votes, strict=True) if vote is not None
            }
            yes = {n for n, vote in told.items() if vote}
            possible = yes | ({1, 2, 3, 4} - told.keys())
            expected = Verdict.PENDING
            if _agree(configuration, yes):
                expected = Verdict.WON
            elif not _agree(configuration, possible):
                expected = Verdict.LOST
            assert tally(configuration, told) is expected, (configuration, told)


def test_the_agreed_index_is_the_highest_that_a_quorum_has_reached() -> None:
    """Searched from above, one index after another."""
    random = Random(7)
    for configuration in _configurations():
        for _ in range(5):
            reached = {n: random.randrange(6) for n in (1, 2, 3, 4) if random.random() < 0.9}
            expected = max(
                index
                for index in range(7)
                if index == 0
                or _agree(configuration, {n for n, far in reached.items() if far >= index})
            )
            assert agreed_index(configuration, reached) == expected, (configuration, reached)


def test_any_two_quorums_on_the_way_through_a_joint_change_meet() -> None:
    """Old, joint, new: each two neighbours have a node in common (section 6)."""
    nodes = (1, 2, 3, 4)
    sets: list[set[int]] = [set(some) for size in range(5) for some in combinations(nodes, size)]
    for old, new in product([(1, 2, 3), (1, 2), (4,)], [(3, 4), (2, 3, 4), (1,)]):
        joint = Configuration(new, old)
        for end in (Configuration(old), Configuration(new)):
            for one, other in product(sets, sets):
                if _agree(end, one) and _agree(joint, other):
                    assert one & other
