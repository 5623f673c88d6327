"""Shrinking, stories and `./lab simulate`: a failing seed becomes something one can read."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from month5_kvstore.commands import app
from month5_kvstore.experiments.judging import judge
from month5_kvstore.simulation import Family, draw, simulate
from month5_kvstore.simulation.planting import Planted
from month5_kvstore.simulation.shrinking import shrink
from month5_kvstore.simulation.story import Story
from month5_kvstore.simulation.zoo import DURATION_US, named
from scalelab.errors import InvalidInput
from scalelab.lab.cli.outcome import CommandFailed


def test_a_shrunk_plan_breaks_the_same_rule_with_less() -> None:
    """A vote given twice needs neither calls nor most of the faults."""
    bug = named("votes twice in a term")
    copy = Planted(bug.file, bug.before, bug.after)
    plans = (draw(seed, duration_us=DURATION_US, family=Family.ELECTIONS) for seed in range(15))
    plan = next(plan for plan in plans if copy.simulate(plan, judge).rule is not None)
    rule = copy.simulate(plan, judge).rule
    short = shrink(plan, lambda candidate: copy.simulate(candidate, judge).rule == rule)
    assert copy.simulate(short, judge).rule == rule
    assert len(short.calls) == 0
    assert len(short.faults) < len(plan.faults)


def test_shrinking_ends_after_so_many_runs() -> None:
    """A plan in which everything matters costs no more than what was allowed."""
    runs: list[int] = []

    def breaks(candidate: object) -> bool:
        runs.append(1)
        return False

    plan = draw(1, duration_us=DURATION_US)
    assert shrink(plan, breaks, runs_max=20) == plan
    assert len(runs) == 20


def test_listening_to_a_run_does_not_change_it() -> None:
    """The story is that of the seed: same hash with and without an observer."""
    plan = draw(3, duration_us=DURATION_US)
    story = Story(plan.nodes)
    assert simulate(plan, judge, observer=story.hear).hash == simulate(plan, judge).hash
    assert any("RequestVote" in line for line in story.lines)


def test_a_message_is_an_arrow_from_its_sender_to_its_receiver() -> None:
    """Both ways, over the lanes between."""
    story = Story((1, 2, 3))
    story.hear(1_000_000, "gets", 3, 1, "there")
    story.hear(2_000_000, "gets", 1, 2, "back")
    story.hear(3_000_000, "sends", 1, 2, "not shown before it arrives")
    assert [line.split("s  ", 1)[1] for line in story.lines] == [
        "o------->     there",
        "<---o   |     back",
    ]


def test_the_command_says_the_same_hash_twice() -> None:
    """`./lab simulate --seed 3`, in the words of the command line."""
    told = [CliRunner().invoke(app, ["simulate", "--seed", "3"]).stdout for _ in range(2)]
    assert told[0] == told[1]
    assert "every rule holds; trace " in told[0]


def test_the_command_tells_the_story_of_a_planted_bug_and_fails() -> None:
    """The rule, what was left out, the diagram; and an exit that a script notices."""
    result = CliRunner().invoke(app, ["simulate", "--seeds", "20", "--bug", "votes twice"])
    assert isinstance(result.exception, CommandFailed)
    assert "shrunk from" in result.stdout
    assert "broken: one vote a term" in result.stdout


def test_one_steps_forwards_and_backwards_through_a_story() -> None:
    """Enter, a number, b, q."""
    result = CliRunner().invoke(app, ["simulate", "--seed", "3", "--step"], input="\n40\nb\nq\n")
    positions = [line for line in result.stdout.split("\n") if "[Enter" in line]
    assert [line.split()[0] for line in positions] == ["1", "2", "40", "39"]


def test_a_bug_that_nobody_knows_is_refused() -> None:
    """By name, with how many there are."""
    with pytest.raises(InvalidInput, match="0 bugs"):
        named("flies away")
