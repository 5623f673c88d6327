"""What a bench is: figures against a named peer or a physical limit, measured in one run.

One file each, `bench/<name>.py`, whose docstring's first line says what is compared, and

    MONTH = "month1"        optional: whose code it measures; `./lab bench month1` runs it too

    def run(options: Options) -> list[Figure]

The paired method stands in `ratio`; `rounds` drives it. `options.runtime` starts private servers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scalelab.lab.course.ratio import Ratio, Sense, holds

if TYPE_CHECKING:
    import random

    from scalelab.lab.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Options:
    """rounds: kept rounds a pair, beside one for warming up. round_s: seconds a subject a round.

    in_process_round_s: the same where both subjects are functions of this process.
    """

    runtime: Runtime
    generator: random.Random
    note: Callable[[str], None]
    rounds: int = 7
    round_s: float = 3.0
    in_process_round_s: float = 0.3


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the answer, against a peer: one side divided by the other, as `unit` says.

    unit: of what was measured (`CPU µs/op, peer / ours`). sense and gate: `at_least` 5.0 holds if
    the interval's low end does; `at_most` judges the high end. share_of_limit: 0..1 of the
    physical limit, None if unknown.
    """

    bench: str
    subject: str
    peer: str
    unit: str
    ratio: Ratio
    sense: Sense
    gate: float
    share_of_limit: float | None = None

    @property
    def holds(self) -> bool:
        """True if the interval's unfavourable end passes the gate."""
        return holds(self.ratio, self.sense, self.gate)

    def document(self) -> dict[str, Any]:
        """One object of the JSON list `figures`."""
        return {
            "bench": self.bench,
            "subject": self.subject,
            "peer": self.peer,
            "unit": self.unit,
            "ratio": self.ratio.ratio,
            "ratio_low": self.ratio.low,
            "ratio_high": self.ratio.high,
            "sense": self.sense,
            "gate": self.gate,
            "share_of_limit": self.share_of_limit,
            "holds": self.holds,
        }


@dataclass(frozen=True, slots=True)
class LimitFigure:
    """One line without a peer: a value in `unit` and the limit it must keep, in the same unit.

    limit: None for a value that is shown and judged by nobody: a control arm, say, or a latency
    where the load and its subject share too few cores.
    """

    bench: str
    subject: str
    unit: str
    value: float
    sense: Sense
    limit: float | None

    @property
    def holds(self) -> bool:
        """True if the value is on the good side of the limit, or has none."""
        if self.limit is None:
            return True
        return self.value >= self.limit if self.sense == "at_least" else self.value <= self.limit

    def document(self) -> dict[str, Any]:
        """One object of the JSON list `figures`."""
        return {
            "bench": self.bench,
            "subject": self.subject,
            "unit": self.unit,
            "value": self.value,
            "sense": self.sense,
            "limit": self.limit,
            "holds": None if self.limit is None else self.holds,
        }


AnyFigure = Figure | LimitFigure
