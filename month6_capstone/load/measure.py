"""What a run measured: latencies by kind and counters by name. Pure values, no clock."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The smallest value with at least `share` (0..1) of the values at or below it.

    Nearest-rank: always a value that was really seen. 0.0 for an empty sequence.
    """
    if not sorted_values:
        return 0.0
    rank = max(1, math.ceil(share * len(sorted_values)))
    return sorted_values[rank - 1]


@dataclass(slots=True)
class Measurements:
    """Latencies in milliseconds from the intended send time, and counts of what came back."""

    latencies_ms: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    counts: Counter[str] = field(default_factory=Counter[str])

    def latency(self, kind: str, ms: float) -> None:
        self.latencies_ms.setdefault(kind, []).append(ms)

    def count(self, name: str) -> None:
        self.counts[name] += 1

    def summary_ms(self, kind: str) -> dict[str, float]:
        """p50, p95 and p99 of one kind, rounded to a tenth of a millisecond."""
        values = sorted(self.latencies_ms.get(kind, []))
        shares = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
        return {name: round(percentile(values, share), 1) for name, share in shares.items()}

    def matching(self, prefix: str) -> dict[str, int]:
        """The counters that begin with `prefix`, without it."""
        return {
            name.removeprefix(prefix): n
            for name, n in sorted(self.counts.items())
            if name.startswith(prefix)
        }
