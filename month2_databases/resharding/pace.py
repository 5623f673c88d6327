"""Pace: how long to pause so that a copy stays below a rate. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from scalelab.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Pace:
    """rows_per_s: the most to copy, None for as fast as it goes.

    A rate and not a share of the CPU: what a row costs is measured once, and the rate keeps its
    promise on a machine whose other load comes and goes.
    """

    rows_per_s: float | None = None

    def __post_init__(self) -> None:
        if self.rows_per_s is not None and self.rows_per_s <= 0:
            raise InvalidInput("a pace is positive, in rows a second", field="rows_per_s")

    def pause_s(self, rows: int, elapsed_s: float) -> float:
        """Seconds to wait after `rows` rows in `elapsed_s` seconds; 0.0 when behind the pace."""
        if self.rows_per_s is None:
            return 0.0
        return max(0.0, rows / self.rows_per_s - elapsed_s)
