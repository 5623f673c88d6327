"""Drive paired rounds: take turns, drop the first round, collect garbage between turns."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from scalelab.lab.course.ratio import Round, Turn, schedule

# Runs its subject for about that many seconds; returns what one operation cost, > 0.
Measure = Callable[[float], float]


def paired(
    a: Measure, b: Measure, *, rounds: int, round_s: float, first: Turn = "A"
) -> list[Round]:
    """`rounds` kept rounds of both subjects in turns; one more round before them warms both up.

    What the subjects raise ends the run: a wrong answer is no measurement.
    Give the same measure twice for the A/A control.
    """
    kept: list[Round] = []
    for index, turns in enumerate(schedule(rounds + 1, first=first)):
        cost: dict[Turn, float] = {}
        for turn in turns:
            gc.collect()
            cost[turn] = (a if turn == "A" else b)(round_s)
        if index:
            kept.append(Round(cost["A"], cost["B"]))
    return kept


def cpu_us_per_operation(operation: Callable[[int], object], *, batch: int = 64) -> Measure:
    """Measure a function of this process: `operation(n)` does n operations.

    The cost is CPU µs of the whole process per operation, so that threads it uses are billed.
    """

    def measure(seconds: float) -> float:
        done = 0
        begun_wall, begun_cpu = time.perf_counter(), time.process_time()
        while time.perf_counter() - begun_wall < seconds:
            operation(batch)
            done += batch
        return max((time.process_time() - begun_cpu) * 1e6 / done, 1e-9)

    return measure
