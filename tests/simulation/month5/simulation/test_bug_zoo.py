"""The bug zoo: a simulator is worth what it catches, so each planted mistake must be caught."""

from __future__ import annotations

import pytest

from month5_kvstore.experiments.judging import judge
from month5_kvstore.simulation import Family, draw, play, simulate
from month5_kvstore.simulation.planting import Planted
from month5_kvstore.simulation.zoo import BUGS, DURATION_US, SCRIPTS, Bug, hunt, script, search
from scalelab.errors import InvalidInput

SEEDS = 15


def _name(bug: Bug) -> str:
    return bug.name


@pytest.mark.parametrize("bug", BUGS, ids=_name)
def test_this_mistake_is_caught_where_it_is_known_to_show(bug: Bug) -> None:
    """By its script, or by one of a handful of seeds of its family."""
    assert hunt(bug, judge, seeds=SEEDS) is not None


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("bug", BUGS, ids=_name)
def test_this_mistake_is_caught_by_a_search_that_knows_nothing_of_it(bug: Bug) -> None:
    """Seeds of all families from 0 on, then every script."""
    assert search(bug, judge, seeds=300) is not None


def test_no_two_mistakes_are_the_same_and_there_are_enough_of_them() -> None:
    """At least 24, each a change of its own."""
    changes = {(bug.file, bug.before, bug.after) for bug in BUGS}
    assert len(changes) == len(BUGS) == len({bug.name for bug in BUGS}) >= 24


@pytest.mark.parametrize("family", Family)
def test_a_copy_without_a_mistake_breaks_nothing(family: Family) -> None:
    """What is caught is the mistake and not the planting; the outcome is the true core's."""
    copy = Planted("raft/raft.py", "", "")
    plan = draw(1, duration_us=DURATION_US, family=family)
    assert copy.simulate(plan, judge).rule is None
    assert simulate(plan, judge).holds


@pytest.mark.parametrize("name", sorted(file.stem for file in SCRIPTS.glob("*.txt")))
def test_the_true_core_breaks_no_rule_in_any_script(name: str) -> None:
    """A script accuses only the mistake."""
    assert play(script(name)).rule is None


def test_planting_refuses_a_passage_that_is_not_there() -> None:
    """A mistake that the source has outgrown is an error, not a mistake that nobody catches."""
    with pytest.raises(InvalidInput, match="0 times"):
        Planted("raft/raft.py", "no such passage", "nothing")
