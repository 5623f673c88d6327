"""Seeds: clusters under faults keep every promise, and a seed is the same run everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from month5_kvstore.experiments.judging import judge
from month5_kvstore.simulation import draw, simulate
from tests.fixtures.tiers import Count

SHORT_US = 6_000_000


@pytest.mark.timeout(3600)
def test_no_seed_breaks_a_promise(count: Count) -> None:
    """I1 to I5, one vote a term, snapshots, linearizability, and life once all is calm again."""
    seeds = count(10_000, share=0.03)
    broken = [
        f"seed {seed}: {outcome.rule}: {outcome.detail}"
        for seed in range(seeds)
        if not (outcome := simulate(draw(seed, duration_us=SHORT_US), judge)).holds
    ]
    assert broken == []


def test_the_storm_is_a_storm_and_most_calls_are_answered_all_the_same() -> None:
    """A simulator that is too kind proves nothing: leaders fall, and clients notice."""
    outcomes = [simulate(draw(seed, duration_us=SHORT_US), judge) for seed in range(20)]
    assert sum(outcome.elections for outcome in outcomes) > len(outcomes)
    planned = sum(len(outcome.plan.calls) for outcome in outcomes)
    answered = sum(outcome.answered for outcome in outcomes)
    assert planned // 2 < answered < planned


def test_a_seed_gives_the_same_trace_again() -> None:
    """Same seed, same hash; another seed, another."""
    hashes = [simulate(draw(seed, duration_us=SHORT_US), judge).hash for seed in (5, 5, 6)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_seed_gives_the_same_trace_in_every_process() -> None:
    """Nothing depends on how this process hashes strings."""
    program = (
        "from month5_kvstore.experiments.judging import judge\n"
        "from month5_kvstore.simulation import draw, simulate\n"
        "for seed in range(4): print(simulate(draw(seed, duration_us=6_000_000), judge).hash)"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).resolve().parents[4],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "4711")
    }
    assert len(told) == 1
