"""Several arms in turns, for benches whose arms are coroutines, and the ratio of two of them."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Mapping

from scalelab.lab.course.bench import LimitFigure, Options
from scalelab.lab.course.ratio import Ratio, Round, compare, is_void

Arm = Callable[[], Awaitable[float]]
"""One turn; returns its cost, > 0."""


async def in_turns(options: Options, arms: Mapping[str, Arm]) -> dict[str, list[float]]:
    """Every arm once a round, in a new order each time; the first round is dropped."""
    options.note(f"in turns: {', '.join(arms)}")
    costs: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(options.rounds + 1):
        for name in options.generator.sample(list(arms), len(arms)):
            gc.collect()
            cost = await arms[name]()
            if number:
                costs[name].append(cost)
    return costs


def ratio_of(options: Options, costs: Mapping[str, list[float]], a: str, b: str) -> Ratio:
    """What `a` costs of `b`, round by round."""
    pairs = [Round(x, y) for x, y in zip(costs[a], costs[b], strict=True)]
    return compare(pairs, options.generator)


def control_of(options: Options, costs: Mapping[str, list[float]], a: str, b: str) -> Ratio:
    """The same of an arm beside itself; says so if this machine is too busy to measure."""
    control = ratio_of(options, costs, a, b)
    if is_void(control):
        options.note(f"the control is off: {control.ratio:.3f}; this machine is too busy")
    return control


def shown(bench: str, subject: str, unit: str, value: float) -> LimitFigure:
    """A figure that nothing is demanded of."""
    return LimitFigure(bench, subject, unit, round(value, 2), "at_most", None)
