"""Pure picks of a server: by turn, by weight, by load, by key."""

from scalelab.balancing.picks import (
    Backend,
    RandomBelow,
    least_connections,
    round_robin,
    two_choices,
)
from scalelab.balancing.ring_pick import ring_pick
from scalelab.balancing.weighted_round_robin import weighted_round_robin

__all__ = [
    "Backend",
    "RandomBelow",
    "least_connections",
    "ring_pick",
    "round_robin",
    "two_choices",
    "weighted_round_robin",
]
