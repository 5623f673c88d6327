"""How far more workers help: Amdahl's law and the Universal Scalability Law, and their fits. Pure.

Theory of operation
    C(n) is the throughput of n workers over that of one.

        Amdahl  C(n) = n / (1 + s (n-1))                  s: share of the work that is serial
        USL     C(n) = n / (1 + s (n-1) + k n (n-1))      k: cost of keeping workers in agreement

    With k > 0 there is a best n, about sqrt((1-s)/k), after which more workers do less. Both laws
    are linear in their parameters after one step: n/C(n) - 1 = s (n-1) + k n (n-1). The fits are
    least squares on that form; a negative parameter has no meaning and counts as 0.

Invariants (tests cite them)
    L1  C(1) = 1, and 0 <= C(n) <= n.
    L2  A fit to points made by a law gives back its parameters.

Sources: Amdahl 1967, "Validity of the single processor approach"; Gunther 2007, "Guerrilla Capacity
Planning", chapter 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scalelab.errors import InvalidInput

Point = tuple[float, float]
"""Workers (>= 1) and throughput relative to one worker (> 0)."""


@dataclass(frozen=True, slots=True)
class Law:
    """serial: s in 0..1. crosstalk: k >= 0; 0 is Amdahl's law."""

    serial: float
    crosstalk: float = 0.0

    def speedup(self, workers: float) -> float:
        """C(workers); workers >= 1."""
        more = workers - 1
        return workers / (1 + self.serial * more + self.crosstalk * workers * more)

    @property
    def best_workers(self) -> float:
        """The number after which more do less; infinite without crosstalk."""
        if self.crosstalk <= 0:
            return math.inf
        return max(1.0, math.sqrt(max(0.0, 1 - self.serial) / self.crosstalk))


def fit_amdahl(points: Sequence[Point]) -> Law:
    """The s that fits best. Raises InvalidInput without a point of two workers or more."""
    rows = _rows(points, at_least=1)
    serial = sum(more * excess for more, _, excess in rows) / sum(more**2 for more, _, _ in rows)
    return Law(min(1.0, max(0.0, serial)))


def fit_usl(points: Sequence[Point]) -> Law:
    """The s and k that fit best. Raises InvalidInput for fewer than two sizes above one worker:
    two unknowns need two measurements."""
    rows = _rows(points, at_least=2)
    aa = sum(more * more for more, _, _ in rows)
    ab = sum(more * pairs for more, pairs, _ in rows)
    bb = sum(pairs * pairs for _, pairs, _ in rows)
    ay = sum(more * excess for more, _, excess in rows)
    by = sum(pairs * excess for _, pairs, excess in rows)
    determinant = aa * bb - ab * ab
    serial = (ay * bb - by * ab) / determinant
    crosstalk = (by * aa - ay * ab) / determinant
    if crosstalk < 0:
        return fit_amdahl(points)
    if serial < 0:
        return Law(0.0, max(0.0, by / bb))
    return Law(min(1.0, serial), crosstalk)


def _rows(points: Sequence[Point], *, at_least: int) -> list[tuple[float, float, float]]:
    """(n-1, n(n-1), n/C - 1) of every point above one worker."""
    if any(workers < 1 or speedup <= 0 for workers, speedup in points):
        raise InvalidInput("a point has at least one worker and does some work", field="points")
    above = [(n, c) for n, c in points if n > 1]
    if len({n for n, _ in above}) < at_least:
        raise InvalidInput(f"the fit needs {at_least} sizes above one worker", field="points")
    return [(n - 1, n * (n - 1), n / c - 1) for n, c in above]
