"""C1, C2, C4 for seeded interleavings of clients that lose calls and die, on true stores."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scalelab.commit import Outcome
from tests.unit.month5.transactions.interleaving import Interleaving

pytestmark = pytest.mark.timeout(1800)  # of all seeds of a night

Count = Callable[..., int]
Model = dict[bytes, bytes]


def history(run: Interleaving) -> list[Model]:
    """The plain model after 0, 1, 2, … commits. Every read of a writer must be the model's."""
    model: Model = {}
    states = [dict(model)]
    for tx in run.groups.committed:
        told = run.told[tx]
        assert {key: model.get(key) for key in told.reads} == told.reads, f"{tx} read the past"
        for key, value in told.writes.items():
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value
        states.append(dict(model))
    return states


def check(run: Interleaving) -> None:
    groups = run.groups
    assert groups.intents() == [], "somebody is in doubt"
    states = history(run)
    assert groups.values() == states[-1]
    for tx, told in run.told.items():
        if told.writes and told.outcome is not None:
            assert (tx in groups.committed) is (told.outcome is Outcome.COMMIT), tx
        if not told.writes and told.outcome is Outcome.COMMIT:
            first, last = told.window
            seen = [{key: model.get(key) for key in told.reads} for model in states]
            assert told.reads in seen[first : last + 1], f"{tx} read no moment"


def test_whatever_is_lost_and_whoever_dies_it_is_as_if_one_went_after_the_other(
    count: Count,
) -> None:
    """The order is that of the records; each reader fits between its last look and its check."""
    crashes = committed = 0
    for seed in range(count(10_000, share=0.02)):
        run = Interleaving(seed)
        run.run()
        check(run)
        crashes += run.crashes
        committed += len(run.groups.committed)
    assert crashes > 0
    assert committed > 0


def test_without_faults_somebody_commits_and_nobody_is_left_in_doubt(count: Count) -> None:
    for seed in range(count(1_000, share=0.05)):
        run = Interleaving(seed, faults=0)
        run.run()
        check(run)
        assert run.groups.committed
        assert all(told.outcome is not None for told in run.told.values())
