"""The experiment load-shedding as arithmetic; the measured run is `./lab experiment`."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from month1_caching_gateway.experiments.fixed_service import CAPACITY_PER_S
from month1_caching_gateway.experiments.load_shedding import Request, Seen, claims, judge, plan_of


def test_arrivals_are_three_capacities_and_then_half_of_one() -> None:
    """The same for every arm, because they come from the seed."""
    plan = plan_of(Random(1), 100.0, 100.0)
    assert plan == plan_of(Random(1), 100.0, 100.0)
    busy = sum(one.due_s < 100 for one in plan)
    assert abs(busy - 300 * CAPACITY_PER_S) < 4.5 * (300 * CAPACITY_PER_S) ** 0.5
    assert abs(len(plan) - busy - 50 * CAPACITY_PER_S) < 4.5 * (50 * CAPACITY_PER_S) ** 0.5


def test_only_answers_in_time_count() -> None:
    """Late ones and refusals are nothing; the settling second is left out."""
    asked = [
        Request(0.5, critical=False, late_s=0.1),
        Request(1.5, critical=True, late_s=0.1),
        Request(1.6, critical=True, late_s=None),
        Request(1.7, critical=False, late_s=5.0),
        Request(2.5, critical=False, late_s=0.1),
    ]
    seen = judge(asked, overload_s=2.0, end_s=3.0)
    assert seen.goodput == 1 / CAPACITY_PER_S
    assert (seen.critical, seen.recovered) == (0.5, 1.0)


def test_an_arm_that_sheds_nothing_well_fails_the_claims() -> None:
    """Each claim can be lost."""
    good = Seen(0.9, 0.95, 1.0, ())
    bad = Seen(0.0, 0.0, 0.0, ())
    assert all(
        one.holds for one in claims({"no bound": bad, "static bound": bad, "adaptive": good})
    )
    worse = replace(good, goodput=0.4, critical=0.5, recovered=0.5)
    lost = claims({"no bound": worse, "static bound": bad, "adaptive": worse})
    assert not any(one.holds for one in lost)
