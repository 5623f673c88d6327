"""Paired rounds: is A better than B, by how much, and how sure is that?

Theory of operation
    A machine drifts: caches warm, neighbours wake, clocks throttle. Two subjects measured one
    after the other meet two machines. Measured in turns, A B B A A B B A …, both meet the same
    drift, and every round gives one ratio of its own. Reported are the ratio of the medians and
    a 95 % interval: rounds are drawn again with replacement, some thousand times, and the middle
    95 % of the ratios so found is kept (the percentile bootstrap). A gate passes on the
    interval's unfavourable end, never on the point.

Invariants (tests cite them)
    I1  Each subject runs once a round; the one that begins changes with every round.
    I2  low <= high, and both are positive.
    I3  Swapping A and B inverts the ratio and its interval.
    I4  The same rounds and the same generator state give the same interval.

Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13; differs in:
pairs (rounds) are drawn, not single values, which keeps what the two shared.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from scalelab.errors import InvalidInput

Sense = Literal["at_least", "at_most"]
Turn = Literal["A", "B"]

MINIMUM_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Round:
    """One paired measurement, same unit on both sides, both > 0 (CPU µs per operation, say)."""

    a: float
    b: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """a / b. ratio: of the medians. low, high: ends of the 95 % interval. rounds: how many."""

    ratio: float
    low: float
    high: float
    rounds: int


def schedule(rounds: int, *, first: Turn = "A") -> tuple[tuple[Turn, Turn], ...]:
    """Who runs when: A B, B A, A B, … one pair a round (I1)."""
    second: Turn = "B" if first == "A" else "A"
    return tuple((first, second) if index % 2 == 0 else (second, first) for index in range(rounds))


def compare(rounds: Sequence[Round], generator: random.Random, *, resamples: int = 2000) -> Ratio:
    """Ratio of medians with its interval (I2, I3, I4). The caller has dropped the warm-up round.

    Raises InvalidInput for fewer than three rounds or a value that is not positive.
    Cost: O(resamples * rounds log rounds).
    """
    if len(rounds) < MINIMUM_ROUNDS:
        raise InvalidInput(f"{len(rounds)} rounds say too little; at least {MINIMUM_ROUNDS}.")
    if any(pair.a <= 0 or pair.b <= 0 for pair in rounds):
        raise InvalidInput("A round with a value <= 0 has no ratio.")
    found = sorted(
        _ratio_of_medians(generator.choices(rounds, k=len(rounds))) for _ in range(resamples)
    )
    cut = int(0.025 * resamples)
    low, high = found[cut], found[-1 - cut]
    point = _ratio_of_medians(rounds)
    return Ratio(point, min(low, point), max(high, point), len(rounds))


def holds(ratio: Ratio, sense: Sense, gate: float) -> bool:
    """True if the whole interval is on the good side of the gate."""
    return ratio.low >= gate if sense == "at_least" else ratio.high <= gate


def is_void(control: Ratio, *, tolerance: float = 0.05) -> bool:
    """True if A against itself differs by more than `tolerance`: the run proves nothing."""
    return abs(control.ratio - 1.0) > tolerance


def _ratio_of_medians(rounds: Sequence[Round]) -> float:
    return median(pair.a for pair in rounds) / median(pair.b for pair in rounds)
