"""Members: the servers that keys are spread over, each with a name and a weight."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from scalelab.errors import Conflict, InvalidInput, NotFound


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """One server. weight: its share of the keys against the others', above 0 and finite.

    The name alone says where its keys lie: an address that moves is better not part of it.
    """

    name: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (self.weight > 0 and math.isfinite(self.weight)):
            raise InvalidInput(
                f"weight {self.weight} of {self.name!r} must be above 0 and finite", field="weight"
            )


def ordered(members: Iterable[Member]) -> tuple[Member, ...]:
    """By name, so that the order they came in never matters. Raises Conflict for a double name."""
    found = tuple(sorted(members))
    for first, second in pairwise(found):
        if first.name == second.name:
            raise Conflict(f"member {first.name!r} is there twice", code="duplicate_member")
    return found


def without(members: tuple[Member, ...], name: str) -> tuple[Member, ...]:
    """All but one. Raises NotFound if no member has that name."""
    left = tuple(member for member in members if member.name != name)
    if len(left) == len(members):
        raise NotFound(f"there is no member {name!r}")
    return left
