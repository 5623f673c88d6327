"""One value, whatever the network and the disks do; and whether there is one at all."""

from __future__ import annotations

import pytest

from month5_kvstore.paxos import Day, Instance, Patience, draw, explore, run
from month5_kvstore.paxos.bugs import BUGS, Bug, enumerated, hunted
from scalelab.errors import InvalidInput
from tests.fixtures.tiers import Count

SEEDS = 1_500


def _name(bug: Bug) -> str:
    return bug.name


@pytest.mark.parametrize(
    "instance",
    [
        Instance(),
        Instance(proposers=1, restarts=1),
        pytest.param(Instance(refusals=True), marks=pytest.mark.nightly),
        pytest.param(Instance(restarts=1), marks=pytest.mark.nightly),
    ],
    ids=str,
)
@pytest.mark.timeout(600)
def test_no_order_of_events_lets_two_values_be_chosen(instance: Instance) -> None:
    """P2, in all states of a small instance; and each value is chosen in some of them."""
    explored = explore(instance)
    assert explored.complaint is None
    assert len(explored.chosen) >= 2


@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug.instance], ids=_name)
def test_the_enumeration_finds_this_mistake(bug: Bug) -> None:
    """And tells how it comes to pass."""
    explored = enumerated(bug)
    assert explored.complaint is not None
    assert explored.story


@pytest.mark.parametrize("bug", [bug for bug in BUGS if not bug.instance], ids=_name)
def test_seeded_runs_find_this_mistake(bug: Bug) -> None:
    """What needs a third ballot under way, or a learner, shows in a run."""
    assert hunted(bug, seeds=SEEDS) is not None


def test_the_zoo_holds_mistakes_of_every_agent() -> None:
    """No two are the same."""
    assert len({(bug.file, bug.before, bug.after) for bug in BUGS}) == len(BUGS) >= 18
    assert {bug.file for bug in BUGS} == {"acceptor.py", "proposer.py", "learner.py"}


@pytest.mark.timeout(600)
def test_no_seed_chooses_two_values_and_every_seed_ends_with_one_that_all_know(
    count: Count,
) -> None:
    """Loss, repetition, lateness, crashes, slow disks; calm comes, and with it a decision."""
    broken = [
        (seed, outcome.complaint)
        for seed in range(count(20_000, share=0.05))
        if (outcome := run(draw(seed))).complaint is not None or outcome.chosen is None
    ]
    assert broken == []


def test_the_days_are_bad_enough() -> None:
    """Nodes crash, and ballots are lost to others."""
    outcomes = [run(draw(seed)) for seed in range(100)]
    assert sum(outcome.crashed for outcome in outcomes) > len(outcomes)
    assert sum(outcome.ballots for outcome in outcomes) > 2 * len(outcomes)


def test_a_seed_is_the_same_run_again() -> None:
    """Nothing but the seed has a say."""
    assert [run(draw(seed)) for seed in range(20)] == [run(draw(seed)) for seed in range(20)]


@pytest.mark.parametrize("random", [False, True])
def test_two_eager_proposers_duel_for_ever_unless_chance_parts_them(*, random: bool) -> None:
    """2.4: legs of 1 ms, so a ballot takes 4 ms; both begin again after 3.4 ms."""
    duel = Day(
        seed=1,
        nodes=3,
        starts_us=(0, 1_500),
        patience=Patience(3_400, random=random),
        latency_us=(1_000, 1_000),
        stormy_us=10**9,
        ballots_max=2_000,
    )
    outcome = run(duel)
    assert outcome.complaint is None
    assert (outcome.chosen is not None) == random


def test_an_enumeration_that_would_not_end_says_so() -> None:
    """Rather than fill the memory."""
    with pytest.raises(InvalidInput, match="more than 1000 states"):
        explore(Instance(begins=3), states_max=1_000)
