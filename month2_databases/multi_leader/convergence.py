"""Whether two copies of a table are one, and where they differ. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Rows = Mapping[str, tuple[object, ...]]
"""A table by its key."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Keys, sorted: on one side only, or on both with other columns."""

    only_left: tuple[str, ...]
    only_right: tuple[str, ...]
    unequal: tuple[str, ...]

    @property
    def is_none(self) -> bool:
        """Both copies are equal: the replicas have converged."""
        return not (self.only_left or self.only_right or self.unequal)


def compare(left: Rows, right: Rows) -> Difference:
    """What differs. Only meaningful once both have applied all of each other's log."""
    return Difference(
        only_left=tuple(sorted(left.keys() - right.keys())),
        only_right=tuple(sorted(right.keys() - left.keys())),
        unequal=tuple(sorted(key for key in left.keys() & right.keys() if left[key] != right[key])),
    )
